"""What would fail or mean nothing late in a training, refused before it begins."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from apdist.addresses import is_withheld
from apdist.config import Config, LossConfig, flatten
from apdist.config.values import shown
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.storage import MissingError
from apdist.training.cluster.room import refuse_at_once
from apdist.training.run_folder.runs import refuse_taken
from apdist.training.tracking.database import refuse_unusable, sqlite_path
from apdist_verbs.terminal.console import say, warn

if TYPE_CHECKING:
    from apdist.config.training import Resize
    from apdist.model.descriptor import DescriptorNet

LARGEST_NODE_BYTES = 1 << 43
"""More memory than a machine of a cluster has; one that is not looked at."""
FLOAT_BYTES = 4
HIGH_CHANCE = 0.25
"""mAP of random order from which on a split tells little."""
LOSS_NAMED = "--loss."
"""Begins the name of an option of the loss on the command line."""
_GIB = 1 << 30


def check_new_run(config: Config) -> None:
    """Refuse a new run for what a look around tells, before data are read or a network is built.

    Raises:
        ValueError: its name is taken, or its folder, tracking or surroundings cannot be had.
    """
    refuse_taken(config)
    if (output := storage.local_path(config.run.output)) is not None:
        refuse_unwritable("run.output", output)
    if config.tracking.enabled:
        refuse_unusable(config.tracking.uri)
        if (database := sqlite_path(config.tracking.uri)) is not None:
            refuse_unwritable("tracking.uri", database.parent)
    check_surroundings(config)


def refuse_incomplete(config: Config) -> None:
    """Refuse addresses that a run's config.json has without their signature or password.

    Raises:
        ValueError: the first one, by its option.
    """
    for name, value in flatten(config).items():
        if is_withheld(value):
            raise ValueError(
                f"{name} {shown(value)} is written down without its signature or password; give "
                f"the whole address again: --{name.replace('_', '-')} ADDRESS"
            )


def warn_of_no_effect(config: Config) -> None:
    """Warn of options that change nothing beside the others."""
    options, usual = config.training, Config()
    idle = {
        **{
            f"lora.{name}": "without lora.rank"
            for name in ("targets", "alpha", "dropout")
            if not config.lora.rank and getattr(config.lora, name) != getattr(usual.lora, name)
        },
        **(
            {"training.warmup_steps": "with the schedule one_cycle, which rises by warmup_share"}
            if options.warmup_steps and options.schedule == "one_cycle"
            else {}
        ),
        **(
            {"training.final_share": f"with the schedule {options.schedule}"}
            if options.final_share and options.schedule not in ("linear", "cosine")
            else {}
        ),
        **(
            {"training.unfreeze_at": f"in {options.steps} steps"}
            if options.unfreeze_at >= options.steps
            else {}
        ),
    }
    for name, why in idle.items():
        warn(f"{name} has no effect {why}")


def check_surroundings(config: Config) -> None:
    """The part of `check_new_run` that holds for a run that goes on, too.

    Raises:
        ValueError: weights, cache, memory or workers cannot be had.
    """
    if config.model.weights:
        try:
            storage.version(config.model.weights)
        except MissingError as error:
            from apdist.model.pretrained import WEIGHTS_NAME

            inside = storage.join(config.model.weights, WEIGHTS_NAME)
            hint = f"; did you mean {inside}?" if storage.exists(inside) else ""
            raise ValueError(f"model.weights: {error}{hint}") from error
    check_cache(config)
    check_memory(config)
    refuse_at_once(config.ray)


def check_training_split(images: Catalogue, split: str) -> None:
    """Refuse a split in which every image is a positive of every other.

    Raises:
        ValueError: it has a single class.
    """
    if len(set(images.labels.tolist())) == 1:
        raise ValueError(
            f"the split {split!r} has {len(images)} images of 1 class; a query needs images of "
            "another class to be told apart from: train on at least 2 classes"
        )


def check_evaluation_split(images: Catalogue, split: str) -> None:
    """Refuse a split that nothing can be measured on, and warn of one that tells little.

    Raises:
        ValueError: no query has a positive, or none has a negative.
    """
    sizes = np.unique(images.labels, return_counts=True)[1]
    queries = sizes[sizes > 1]
    if not len(queries):
        raise ValueError(
            f"the split {split!r} has {len(images)} images of {len(sizes)} classes and none with "
            "two images, so no query would have a positive; add images, or choose another split"
        )
    if len(sizes) == 1:
        raise ValueError(
            f"the split {split!r} has {len(images)} images of 1 class, so every order of them has "
            "mAP 1; put at least 2 classes into it, or choose another split"
        )
    chance = float((queries * (queries - 1)).sum() / queries.sum() / (len(images) - 1))
    if chance > HIGH_CHANCE:
        warn(
            f"the split {split!r} has only {len(sizes)} classes: a random order of its "
            f"{len(images)} images has mAP {chance:.2f} already, so its figures tell little; hold "
            "out more classes"
        )


def check_sets(config: Config) -> None:
    """Refuse evaluation sets (`evaluation.sets`) that the training could not measure.

    Raises:
        ValueError: shards or split are not there, the ground truth does not fit the images, or no
            query has a positive.
    """
    if not config.evaluation.sets:
        return
    from apdist.training.sets import open_evaluation_set

    for wanted in config.evaluation.named_sets:
        found = open_evaluation_set(wanted, config)
        if found.protocol == "labelled":
            try:
                check_evaluation_split(found.images, found.split)
            except ValueError as error:
                raise ValueError(f"evaluation.sets {found.name}: {error}") from error


def check_images(network: DescriptorNet, side: int, resize: Resize) -> None:
    """Refuse images that the network does not take; warn of pixels that it was not trained with.

    Raises:
        ValueError: patches do not fill it, or the model's own code fails on it.
    """
    from apdist.model.hub import HubBackbone
    from apdist.model.traits import refuse_side

    name, traits, backbone = network.config.backbone, network.traits, network.backbone
    refuse_side(name, traits, side)
    if not isinstance(backbone, HubBackbone):
        return
    say(
        f"{name}: {traits.num_channels} channels pooled by {network.pooling_name}, trained at "
        f"{traits.side} pixels ({traits.interpolation})"
    )
    if not backbone.tells_pixels:
        warn(
            f"{name} has no preprocessor_config.json, so its pixels are normalised with a mean of "
            f"{tuple(round(m, 3) for m in traits.mean)}; if it was trained with others, save its "
            "image processor beside it"
        )
    if resize != "crop":
        thin, _ = network.fit(side, resize).size(1, side)
        for height, width in ((side, thin), (thin, side)):
            backbone.refuse_shape(height, width)
    if traits.stride and side != traits.side:
        backbone.refuse_what_fails(side)
        warn(
            f"data.image_size {side}: {name} was trained at {traits.side}, and its positions are "
            "interpolated; --data.image-size 0 takes its own"
        )


def check_start(config: Config, num_batches: int) -> None:
    """Refuse to learn the linear layer's start from fewer images than it has axes.

    ``num_batches``: of an epoch.

    Raises:
        ValueError: there are too few.
    """
    if config.model.init == "random":
        return
    from apdist.training.learning.linear_start import batches_of_start

    model, size = config.model, config.training.batch_size
    used = size * batches_of_start(config, num_batches)
    if used <= model.dim:
        raise ValueError(
            f"model.init {model.init} learns model.dim {model.dim} axes from more images than "
            f"that, and takes {used}, in whole batches of an epoch and at most model.init_images "
            f"{model.init_images}; use a smaller dim, more images, or model.init random"
        )


def check_memory(config: Config) -> None:
    """Refuse images of a side that no memory holds, by a bound from below.

    Raises:
        ValueError: the decoded images of a batch, with one chunk as numbers, do not fit.
    """
    workers, pixels = max(1, config.ray.most_workers), 3 * config.data.image_size**2
    is_here = config.ray.most_workers == 0 or config.ray.address == "local"
    sharing = workers if is_here else 1  # of one machine
    batch = -(-config.training.batch_size // workers)
    wanted = config.training.chunk_size
    chunk = 1 if wanted == "auto" else min(wanted, batch)
    describing = (
        config.evaluation.batch_size if config.data.eval_split or config.evaluation.sets else 0
    )
    needed = {
        f"{batch} images of a batch": (batch + FLOAT_BYTES * chunk) * pixels,
        f"{describing} images of an evaluation (evaluation.batch_size)": describing
        * (1 + FLOAT_BYTES)
        * pixels,
    }
    what, size = max(needed.items(), key=lambda item: item[1])
    there = machine_bytes() if is_here else LARGEST_NODE_BYTES
    if size * sharing > there:
        raise ValueError(
            f"data.image_size {config.data.image_size}: {what} take {size / _GIB:,.0f} GiB on each "
            f"of {workers} workers; {'this machine has' if is_here else 'no machine has more than'}"
            f" {there / _GIB:,.0f} GiB: use a smaller side, or fewer images at once"
        )


def machine_bytes() -> int:
    """Memory of this machine, or what a container's limit leaves of it."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else ""
    return min(there, int(text)) if text.isdigit() else there


def check_cache(config: Config) -> None:
    """Refuse a cache folder that cannot be used here.

    Raises:
        ValueError: it is a file, or nobody may write there.
    """
    folder = config.data.cache_dir
    if folder and os.path.lexists(folder) and not os.path.isdir(folder):
        raise ValueError(f"data.cache_dir {folder} is a file; give a folder")
    if folder:
        refuse_unwritable("data.cache_dir", folder)


def refuse_unwritable(name: str, folder: str | Path, remedy: str = "give another folder") -> None:
    """Refuse a folder that could not be made, or in which no file could be made.

    Args:
        name: of the option.
        folder: on a disk.
        remedy: what else can be done.

    Raises:
        ValueError: the nearest folder that is there is a file, or does not let us write.
    """
    here = next(path for path in _above(Path(folder)) if os.path.lexists(path))
    if not here.is_dir():
        raise ValueError(f"{name} {folder}: {here} is no folder; {remedy}")
    try:  # permissions alone do not tell: a disk may be full, or read-only
        with TemporaryDirectory(prefix=".apdist-", dir=here):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            f"{name} {folder}: nothing can be made in {here} ({reason}); {remedy}"
        ) from error


def refuse_unwritable_file(name: str, target: str, example: str = "") -> None:
    """Refuse a local ``target`` that is a folder, or that could not be made.

    Args:
        name: of the option.
        target: as a person typed it.
        example: a file's name for the remedy.

    Raises:
        ValueError: it cannot be written.
    """
    path = storage.local_path(storage.absolute(target))
    if path is None:
        return
    if path.is_dir():
        remedy = f"give a file, as {os.path.join(target, example)}" if example else "give a file"
        raise ValueError(f"{name} {target} is a folder; {remedy}")
    refuse_unwritable(name, path.parent)


def refuse_unwritable_run(name: str, uri: str, remedy: str) -> None:
    """Refuse a run on a disk that only others write to, before hours of work for what goes there.

    Raises:
        ValueError: nothing can be made in its folder.
    """
    if (path := storage.local_path(uri)) is not None:
        refuse_unwritable(name, path, remedy)


def _above(path: Path) -> Iterable[Path]:
    whole = Path(os.path.abspath(path))
    return (whole, *whole.parents)


def refuse_useless(argv: list[str], *losses: LossConfig) -> None:
    """Refuse an option of a loss in ``argv`` that none of ``losses`` has.

    A preset may set the bins of the listwise loss and another loss be chosen. Who types them for
    another loss expects them to do something.

    Raises:
        ValueError: says which options it has.
    """
    for word in argv:
        if word.startswith(LOSS_NAMED):
            name = word.partition("=")[0].removeprefix(LOSS_NAMED).replace("-", "_")
            if any(loss.has(name) or getattr(loss, name) == "auto" for loss in losses):
                continue
            losses[0].refuse_without(name)
