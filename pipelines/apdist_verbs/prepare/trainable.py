"""What comes after shards are there: the training that they allow, or what is in its way."""

from collections.abc import Mapping

import numpy as np

from apdist.config import Config, flatten, override
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.catalogue.selection import evaluation_images, training_images
from apdist_verbs.presets import preset
from apdist_verbs.start.checks import check_evaluation_split, check_training_split
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.next_step import near, say_next

BATCH_SIZE = "training.batch_size"
FEWEST_IMAGES = 4
"""Of a batch."""


def say_training(shards: str, name: str, wanted: Mapping[str, int] | None = None) -> None:
    """Say a training on ``shards`` that is not refused, or why there is none.

    Shards without a training split are for something else: nothing is said.

    Args:
        shards: folder with the catalogue.
        name: the preset to start from.
        wanted: values by dotted name that the preset's are replaced by.
    """
    catalogue, start = read_catalogue(shards), preset(name)
    if start.data.train_split not in catalogue.splits():
        return
    try:
        config = fitting(catalogue, override(start, dict(wanted or {})))
    except ValueError as error:
        say(f"no training on them: {error}")
        return
    old = flatten(start)
    changed = {key: value for key, value in flatten(config).items() if value != old[key]}
    words = (word for key, value in changed.items() for word in _words(key, value))
    say_next("train on them", "train", name, "--data.shards", near(shards), *words)


def fitting(catalogue: Catalogue, config: Config) -> Config:
    """``config`` with the largest batch there is, and without a split that measures nothing.

    Raises:
        ValueError: nothing can be trained on the images.
    """
    from apdist.data.plan.batch_sampler import build_plan

    images = training_images(catalogue, config.data, config.training.seed)
    check_training_split(images, config.data.train_split)
    sizes = np.unique(images.labels, return_counts=True)[1]
    num_images = int(sizes[sizes > 1].sum())
    usable = num_images // 2 * 2
    if 0 < usable < FEWEST_IMAGES:
        raise ValueError(
            f"the training images that have another of their class are {num_images}, and a batch "
            f"takes {FEWEST_IMAGES} or more; add images"
        )
    if 0 < usable < config.training.batch_size:
        config = override(config, {BATCH_SIZE: usable})
    build_plan(images.labels, config)
    if is_measurable(catalogue, config):
        return config
    return override(config, {"data.eval_split": ""})


def is_measurable(catalogue: Catalogue, config: Config) -> bool:
    """Whether the evaluation split is there and tells something; a warning says what it lacks."""
    split = config.data.eval_split
    if split not in catalogue.splits():
        return False
    try:
        images = evaluation_images(catalogue, config.data, config.training.seed)
        check_evaluation_split(images, split)
    except ValueError as error:
        warn(
            f"{error} (where --split-by-class chose it, a smaller share); the command that is next "
            "measures nothing"
        )
        return False
    return True


def _words(name: str, value: object) -> tuple[str, ...]:
    option = f"--{name.replace('_', '-')}"
    return (f"{option}=",) if value == "" else (option, str(value))
