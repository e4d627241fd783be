"""What is audited: the images of shards or of a run, and the network that describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from apdist.config import ModelConfig
from apdist.config.values import suggestion
from apdist.data import storage
from apdist.data.catalogue.catalogue import CATALOGUE_NAME, Catalogue, read_catalogue
from apdist.data.catalogue.selection import training_images
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import TrainedModel
from apdist.training.run_folder.checkpoint import newest_sound
from apdist.training.run_folder.runs import CONFIG_NAME, Run
from apdist_verbs.described import find_run, shards_of, trained_model
from apdist_verbs.start.checks import refuse_unwritable
from apdist_verbs.terminal.next_step import near
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist_verbs.audit import Options

IMAGENET_SIDE = 160
"""Pixels that the ImageNet network sees an image at: half the time of 224."""

LEARNED = (
    "The model has learned from these labels, and may agree with wrong ones: "
    "--descriptors imagenet compares by a network that has not."
)
WITHOUT_LABELS = (
    "Labels, classes and outliers were not looked at, as no network described the images ({})."
)


@dataclass(frozen=True)
class Audited:
    """What is looked at, and with what."""

    catalogue: Catalogue
    model: TrainedModel | None
    by: str
    """What describes images, in words."""
    train_split: str
    out: str
    notices: tuple[str, ...]
    run: str
    """Its folder; empty of shards."""

    def train_words(self, exclude: str) -> list[str]:
        """The command that trains without what is in a file, after `apdist`."""
        start = ["folder", "--data.shards", near(self.catalogue.root)]
        if not self.run and self.train_split != "train":
            start += ["--data.train-split", self.train_split]
        if self.run:
            start = ["--config", near(self.run)]
        return ["train", *start, "--data.exclude", exclude]


def what_to_audit(options: Options) -> Audited:
    """The images, and the network that describes them.

    Raises:
        ValueError: there is neither data nor a run, no image, or an option that does not fit.
    """
    uri = storage.absolute(options.uri)
    is_run = storage.exists(storage.join(uri, CONFIG_NAME))
    if not is_run:
        refuse_of_data(options, storage.exists(storage.join(uri, CATALOGUE_NAME)))
    out = storage.absolute(options.out or (storage.join(uri, "audit") if is_run else "audit"))
    refuse_place(out)
    if is_run:
        run = find_run(options.uri)
        shards, train_split = shards_of(run, options.shards), run.config.data.train_split
    else:
        shards, train_split = uri, "train"
    with phase("reading the catalogue"):
        catalogue = read_catalogue(shards)
    if not len(catalogue):
        raise ValueError(f"the catalogue under {shards} holds no image; prepare some")
    split = checked_split(options.train_split, train_split, catalogue)
    model, by, notices = describer(options, uri if is_run else "", catalogue)
    return Audited(catalogue, model, by, split, out, notices, uri if is_run else "")


def refuse_of_data(options: Options, is_data: bool) -> None:
    """Refuse what is no data, and options that shards do not have.

    Raises:
        ValueError: there is no data, or --shards is given.
    """
    if is_data and options.shards:
        raise ValueError(
            f"--shards {options.shards} belongs to a run, and {options.uri} holds shards itself; "
            "leave it out"
        )
    if is_data:
        return
    path = storage.local_path(storage.absolute(options.uri))
    if path is not None and not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise ValueError(
            f"{options.uri} {what}; expected a folder of shards (with index.parquet) or of a run"
        )


def refuse_place(out: str) -> None:
    """Refuse a place for the results before anything is looked at.

    Raises:
        ValueError: nothing can be written there.
    """
    if (path := storage.local_path(out)) is not None:
        refuse_unwritable("--out", path)


def checked_split(given: str, usual: str, catalogue: Catalogue) -> str:
    """The split that is trained on: as given, the usual one, or the only one.

    Raises:
        ValueError: the given one is not there.
    """
    there = {name: count for name, count in catalogue.splits().items() if count}
    if given and given not in there:
        raise ValueError(
            f"--train-split {given!r} is not in {catalogue.root}, which has "
            f"{', '.join(there)}{suggestion(given, list(there))}"
        )
    return given or (next(iter(there)) if len(there) == 1 else usual)


def describer(
    options: Options, run: str, catalogue: Catalogue
) -> tuple[TrainedModel | None, str, tuple[str, ...]]:
    """The network that describes, what it is in words, and what should be known of it.

    Raises:
        ValueError: it is asked for and cannot be had.
    """
    if options.descriptors == "none":
        return None, "thumbnails alone", (WITHOUT_LABELS.format("--descriptors none"),)
    if run and options.descriptors == "auto":
        opened = find_run(run)
        notices = (LEARNED,) if has_learned_from(opened, catalogue) else ()
        return trained_model(opened), f"the model of {near(run)}", notices
    try:
        return imagenet_model(), "EfficientNet-lite0 with ImageNet weights", ()
    except ValueError as error:
        if options.descriptors == "imagenet":
            raise ValueError(f"--descriptors imagenet: {error}") from error
        return None, "thumbnails alone", (WITHOUT_LABELS.format(str(error)),)


def has_learned_from(run: Run, catalogue: Catalogue) -> bool:
    """Whether ``run`` was trained on these shards, where they lie or as a copy of them."""
    own = storage.absolute(run.config.data.shards)
    if storage.shown(catalogue.root) == storage.shown(own):
        return True
    try:
        images = training_images(catalogue, run.config.data, run.config.training.seed)
        found = newest_sound(run.uri, with_state=False)
    except ValueError:  # no such split or images; or no checkpoint tells of those of the run
        return False
    return found is not None and found.marker.data_hash == images.fingerprint()


def imagenet_model() -> TrainedModel:
    """EfficientNet-lite0 as its package has it.

    Raises:
        ValueError: the package is not installed.
    """
    network = DescriptorNet(ModelConfig(backbone="efficientnet_lite0", dim=0))
    return TrainedModel(network, network.fit(IMAGENET_SIDE, "crop"), "efficientnet_lite0")
