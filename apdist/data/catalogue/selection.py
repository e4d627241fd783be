"""Which images of a catalogue a run is trained on, chosen by, and measured on.

The training split, less what a list excludes, less a share that is held out: by the held-out images
weights are chosen, so that the evaluation split is not. All a function of labels, options and seed.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from apdist.config import DataConfig
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.text import decoded

HOLDOUT = "holdout"
"""Name of the held-out share of the training split, wherever a split is named."""
USUAL_SHARE = 0.1
FEWEST_CLASSES = 5
"""With two images or more, that are worth holding out: of fewer, a random order has a mAP over 0.2
already, and the best of several figures is luck."""
_HOLDOUT_STREAM = 3
"""Random stream of a seed; `plan` uses others."""
_CLASS = "class:"


def training_images(catalogue: Catalogue, data: DataConfig, seed: int) -> Catalogue:
    """The images to train on.

    Raises:
        ValueError: the split is missing, the list of exclusions names what is not there, or nothing
            is left.
    """
    return _divided(catalogue, data, seed)[0]


def evaluation_images(catalogue: Catalogue, data: DataConfig, seed: int) -> Catalogue:
    """The images of data.eval_split; ``holdout`` is the share kept out of the training split.

    Raises:
        ValueError: the split is missing.
    """
    return images_of(data.eval_split, catalogue, data, seed)


def validation_images(catalogue: Catalogue, data: DataConfig, seed: int) -> Catalogue | None:
    """The images by which weights are chosen; None where none are held out.

    Raises:
        ValueError: the split is missing.
    """
    if data.validation_split:
        return images_of(data.validation_split, catalogue, data, seed)
    held_out = _divided(catalogue, data, seed)[1]
    return held_out if len(held_out) else None


def validation_name(data: DataConfig) -> str:
    """What the split of `validation_images` is called."""
    return data.validation_split or HOLDOUT


def images_of(split: str, catalogue: Catalogue, data: DataConfig, seed: int) -> Catalogue:
    """The images of a split, which may be ``holdout``.

    Raises:
        ValueError: it is missing.
    """
    if split != HOLDOUT or HOLDOUT in catalogue.splits():
        return catalogue.select(split)
    held_out = _divided(catalogue, data, seed)[1]
    if not len(held_out):
        raise ValueError(
            f"nothing of the training split is held out (data.holdout_share {data.holdout_share}); "
            "give a share: --data.holdout-share 0.1"
        )
    return held_out


def sharing_images(
    split: str, catalogue: Catalogue, data: DataConfig, seed: int
) -> dict[str, Catalogue]:
    """Other splits by name that have images of ``split``: what is held out was of the training's.

    Raises:
        ValueError: a split is missing.
    """
    if split not in (HOLDOUT, data.train_split) or HOLDOUT in catalogue.splits():
        return {}
    if split == HOLDOUT:
        return {data.train_split: catalogue.select(data.train_split)}
    held_out = _divided(catalogue, data, seed)[1]
    return {HOLDOUT: held_out} if len(held_out) else {}


def _divided(catalogue: Catalogue, data: DataConfig, seed: int) -> tuple[Catalogue, Catalogue]:
    """Images to train on, and images held out."""
    split = catalogue.select(data.train_split)
    if data.exclude:
        split = split.subset(np.flatnonzero(~_excluded(catalogue, split, data)))
        if not len(split):
            raise ValueError(f"data.exclude: {data.exclude} excludes all training images")
    held_out = _held_out(catalogue, split, data, seed)
    return split.subset(np.flatnonzero(~held_out)), split.subset(np.flatnonzero(held_out))


def _held_out(
    catalogue: Catalogue, split: Catalogue, data: DataConfig, seed: int
) -> NDArray[np.bool_]:
    """(n,) bool: which images of the training ``split`` are held out."""
    share, has_own = data.holdout_share, HOLDOUT in catalogue.splits()
    if share == "auto":
        is_chosen_otherwise = bool(data.validation_split) or has_own
        share = 0.0 if is_chosen_otherwise else USUAL_SHARE
        found = held_out_images(split.labels, share, data.holdout_by, seed)
        sizes = np.unique(split.labels[found], return_counts=True)[1]
        is_enough = (sizes > 1).sum() >= FEWEST_CLASSES
        return found if is_enough else np.zeros_like(found)
    if share and has_own:
        raise ValueError(
            f"{catalogue.root} has a split {HOLDOUT!r} of its own; leave out data.holdout_share"
        )
    found = held_out_images(split.labels, share, data.holdout_by, seed)
    if share and (found.all() or not found.any()):
        raise ValueError(
            f"data.holdout_share {share} holds out {'all' if found.all() else 'none'} of the "
            f"{len(split)} training images of {len(np.unique(split.labels))} classes; change it"
        )
    return found


def held_out_images(
    labels: NDArray[np.int64], share: float, by: str, seed: int
) -> NDArray[np.bool_]:
    """(n,) bool: which images of ``labels`` (n,) are held out; as many of ``by`` as ``share`` says.

    Equal for equal labels, share and seed; a larger share holds out more images, never others.
    """
    if not share:
        return np.zeros(len(labels), dtype=bool)
    units = np.unique(labels) if by == "class" else np.arange(len(labels))
    random = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(_HOLDOUT_STREAM,)))
    drawn = np.argsort(random.random_raw(len(units)), kind="stable")[: round(share * len(units))]
    chosen = np.isin(labels if by == "class" else units, units[drawn])
    return np.asarray(chosen)


def _excluded(catalogue: Catalogue, split: Catalogue, data: DataConfig) -> NDArray[np.bool_]:
    """(n,) bool: which images of ``split`` the list names.

    Raises:
        ValueError: an entry is in no split of the catalogue: a mistake that would go unnoticed.
    """
    lines = [line.strip() for line in _text(data.exclude).splitlines()]
    entries = dict.fromkeys(line for line in lines if line and not line.startswith("#"))
    keys = [entry for entry in entries if not entry.startswith(_CLASS)]
    names = [entry.removeprefix(_CLASS).strip() for entry in entries if entry.startswith(_CLASS)]
    _refuse_unknown(keys, _known(catalogue, "key", keys), data.exclude, "image has the key")
    _refuse_unknown(names, _known(catalogue, "label_name", names), data.exclude, "class is named")
    named: NDArray[np.bool_] = _named(split, "key", keys) | _named(split, "label_name", names)
    return named


def _text(uri: str) -> str:
    if not storage.exists(uri):
        raise ValueError(f"data.exclude: {uri} {storage.absence(uri)}; check the path")
    try:
        return decoded(storage.read_bytes(uri))
    except UnicodeDecodeError as error:
        raise ValueError(f"data.exclude: {uri} is not a text file in UTF-8") from error


def _named(catalogue: Catalogue, column: str, wanted: list[str]) -> NDArray[np.bool_]:
    """(n,) bool: where ``column`` is one of ``wanted``."""
    if column == "key":
        found = pc.is_in(catalogue.column(column), pa.array(wanted, pa.string()))
        return np.asarray(found.to_numpy(), dtype=bool)
    codes, names = codes_and_names(catalogue.column(column))
    return np.isin(codes, [code for code, name in enumerate(names) if name in set(wanted)])


def _known(catalogue: Catalogue, column: str, wanted: list[str]) -> set[str]:
    if not wanted:
        return set()
    rows = np.flatnonzero(_named(catalogue, column, wanted))
    return set(catalogue.column(column).take(rows).cast(pa.string()).unique().to_pylist())


def _refuse_unknown(wanted: list[str], known: set[str], uri: str, what: str) -> None:
    unknown = [entry for entry in wanted if entry not in known]
    if unknown:
        listed = ", ".join(map(repr, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise ValueError(f"data.exclude: {uri}: no {what} {listed} ({len(unknown)} in all)")
