"""The data of a training, planned once here: whether a batch can be filled, and what is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apdist.config import Config, DataConfig
from apdist.data import storage
from apdist_verbs.start.checks import (
    check_evaluation_split,
    check_sets,
    check_start,
    check_training_split,
)
from apdist_verbs.terminal.console import counted
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.data.catalogue.catalogue import Catalogue


@phase("reading the catalogue")
def check_data(config: Config) -> str:
    """Plan the epochs once here; says in a line what of the data is used and left out.

    Raises:
        ValueError: a batch cannot be filled, or a split is missing.
    """
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.data.catalogue.selection import (
        evaluation_images,
        training_images,
        validation_images,
        validation_name,
    )
    from apdist.data.plan.batch_sampler import build_plan
    from apdist.training.choosing import refuse_unchoosable

    catalogue, seed = read_catalogue(config.data.shards), config.training.seed
    if split := config.data.eval_split:
        check_evaluation_split(evaluation_images(catalogue, config.data, seed), split)
    held_out = validation_images(catalogue, config.data, seed)
    refuse_unchoosable(config, 0 if held_out is None else len(held_out))
    if held_out is not None:
        check_evaluation_split(held_out, validation_name(config.data))
    check_sets(config)
    images = training_images(catalogue, config.data, seed)
    check_training_split(images, config.data.train_split)
    facts = build_plan(images.labels, config).summary
    check_start(config, facts.steps_per_epoch)
    lone = f", {counted(facts.num_lone_classes, 'class', 'classes')} with one image left out"
    capped = f", {facts.num_capped_classes} classes rarer than their weight"
    return (
        f"{storage.shown(config.data.shards)}: {facts.num_images} training images "
        f"of {facts.num_classes} classes"
        f"{lone if facts.num_lone_classes else ''}{capped if facts.num_capped_classes else ''}; "
        f"{facts.steps_per_epoch} steps an epoch; {chosen_by(config.data, held_out)}"
    )


def chosen_by(data: DataConfig, held_out: Catalogue | None) -> str:
    """By which images weights are chosen, in words."""
    if held_out is None:
        why = ", too few classes to hold any out" if data.holdout_share == "auto" else ""
        return f"the last weights are saved{why}"
    num = counted(len(set(held_out.labels.tolist())), "class", "classes")
    if data.validation_split:
        where = f"{len(held_out)} images of the split {data.validation_split!r}, of {num}"
    else:
        where = f"{len(held_out)} held-out images of {num}"
    return f"weights are chosen by {where}"


def used_data(config: Config) -> list[dict[str, Any]]:
    """What of the shards is used for what, as MLflow shows it."""
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.training.tracking.datasets import datasets_of

    return datasets_of(config, read_catalogue(config.data.shards))
