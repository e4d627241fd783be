"""The whitenings in a run's folder, by name: ``whitening/NAME.safetensors``."""

from urllib.parse import quote, unquote

from apdist.config import suggestion
from apdist.data import storage
from apdist.model.whitening import Whitening, load_whitening, save_whitening

FOLDER = "whitening"
_SUFFIX = ".safetensors"


def keep_whitening(whitening: Whitening, run: str, name: str) -> str:
    """Write ``whitening`` into the folder of ``run``; returns where it lies."""
    uri = storage.join(run, f"{FOLDER}/{quote(name, safe='')}{_SUFFIX}")
    save_whitening(whitening, uri)
    return uri


def refuse_other_model(whitening: Whitening, model_id: str) -> None:
    """Raise unless ``whitening`` was learned with the model, or nobody knows with which.

    Raises:
        ValueError: it was learned with another one, whose axes mean something else.
    """
    if whitening.model not in ("", model_id):
        raise ValueError(
            f"the whitening {whitening.learned_on!r} was learned with model {whitening.model}, and "
            f"this one is {model_id}: its axes mean something else; learn one with this model: "
            "apdist whiten --run RUN"
        )


def refuse_if_learned_from(whitening: Whitening, images: str, what: str) -> None:
    """Refuse to measure images with a ``whitening`` that was learned from them.

    Args:
        whitening: to be applied to their descriptors.
        images: `Catalogue.fingerprint` of what is measured, or of what shares images with that.
        what: these images, for the message.

    Raises:
        ValueError: it was; figures would flatter.
    """
    if whitening.images and whitening.images == images:
        raise ValueError(
            f"the whitening was learned from {what} ({whitening.learned_on}): figures on these "
            "images would flatter; learn it from others: apdist whiten --split SPLIT, or --shards"
        )


def whitening_names(run: str) -> list[str]:
    """Names of the whitenings that the folder of ``run`` has, sorted."""
    files = storage.list_files(storage.join(run, FOLDER), _SUFFIX)
    return sorted(unquote(file.removesuffix(_SUFFIX)) for file in files)


def find_whitening(run: str, name: str, dim: int) -> Whitening:
    """The whitening ``name`` of a run, or that of a file, if ``name`` ends as one.

    Args:
        run: URI of the run's folder.
        name: as `whitening_names` has it, or a path or URI that ends with .safetensors.
        dim: size of the descriptors that it is for.

    Raises:
        ValueError: there is none of that name, it is damaged, or for descriptors of another size.
    """
    names = whitening_names(run)
    if name in names:
        uri = storage.join(run, f"{FOLDER}/{quote(name, safe='')}{_SUFFIX}")
    elif name.endswith(_SUFFIX):
        uri = name
    else:
        has = f"it has {', '.join(names)}" if names else "it has none"
        raise ValueError(
            f"{run} has no whitening {name!r}: {has}{suggestion(name, names)}; give one of its "
            f"own, or a file that ends with {_SUFFIX}"
        )
    found = load_whitening(uri)
    if len(found.mean) != dim:
        raise ValueError(
            f"{uri} was learned on descriptors of {len(found.mean)} numbers, and those of {run} "
            f"have {dim}; use one that was learned with this model"
        )
    return found
