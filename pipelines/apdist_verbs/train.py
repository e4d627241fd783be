"""``apdist train PRESET`` or ``apdist train --resume RUN``."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from apdist.config import (
    Config,
    DataConfig,
    LoraConfig,
    LossConfig,
    ModelConfig,
    TrainingConfig,
)
from apdist.data import storage
from apdist.data.decoders import resolved
from apdist.training.events import WorkersFailed
from apdist.training.job import Job
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import Run, create_run
from apdist.training.tracking.following import Follower, forget
from apdist_verbs.presets import preset_help
from apdist_verbs.resume import resume
from apdist_verbs.start.checks import (
    check_evaluation_split,
    check_images,
    check_new_run,
    check_sets,
    check_start,
    check_training_split,
    warn_of_no_effect,
)
from apdist_verbs.start.pictures import with_images
from apdist_verbs.start.start import read_start
from apdist_verbs.terminal.console import counted, say
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.progress import phase, progress_bar
from apdist_verbs.terminal.screen import Screen

if TYPE_CHECKING:
    from apdist.config.training import Resize
    from apdist.data.catalogue.catalogue import Catalogue
    from apdist.loss.batch_loss import BatchLoss


def usage() -> str:
    """Help before the options."""
    return (
        "usage: apdist train PRESET [IMAGES] [OPTIONS]\n"
        "                                 train anew, on IMAGES/<class>/<image> or on\n"
        "                                 shards that are prepared (--data.shards)\n"
        "       apdist train --config FILE [IMAGES] [OPTIONS]\n"
        "                                 train anew with the options of a run's\n"
        "                                 config.json, or the same in TOML\n"
        "       apdist train --resume RUN [OPTIONS]\n"
        "                                 go on from the run's last checkpoint\n"
        "       apdist train --resume RUN --fork [OPTIONS]\n"
        "                                 begin another run at that checkpoint\n\n"
        f"presets:\n{preset_help()}\n\n"
        "apdist train PRESET --help shows what people change, --help-all the rest\n"
    )


def main(argv: list[str]) -> int:
    """Parse and run."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if argv[0] == "--resume":
        return resume(argv[1:])
    name, options = read_start(argv)
    config = with_own_side(with_absolute_paths(options.config))
    check_new_run(config)
    # The network before pictures are prepared, which may take hours.
    config = with_images(options, config, lambda: check_model(config))
    run = new_run(config, name)
    with discarded_if_refused(run):
        return told_next(run, train_run(run))


def told_next(run: Run, code: int) -> int:
    """``code``, after the command that is next where the training has come to its end."""
    if code == 0:
        say_next("measure it", "evaluate", "--run", near(run.uri))
    return code


@contextmanager
def discarded_if_refused(run: Run) -> Iterator[None]:
    """A new run that is refused before the training begins leaves nothing behind."""
    try:
        yield
    except (ValueError, OSError):
        if run.discard_if_untouched():
            forget(run)
        raise


def new_run(config: Config, preset_name: str) -> Run:
    """Check data and network before anything starts, then make the run's folder.

    Raises:
        ValueError: a batch cannot be filled, a split is missing, the run exists.
    """
    say(check_data(config))
    if told := check_model(config):
        say(told)
    warn_of_no_effect(config)
    return create_run(config, preset_name)


@phase("reading the catalogue")
def check_data(config: Config) -> str:
    """What the plan uses and leaves out, in a line.

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


def used_data(config: Config) -> list[dict[str, Any]]:
    """What of the shards is used for what, as MLflow shows it."""
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.training.tracking.datasets import datasets_of

    return datasets_of(config, read_catalogue(config.data.shards))


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


def check_model(config: Config) -> str:
    """Build network and loss once here, ask for the decoder: a cluster should not find it missing.

    Returns:
        How much of the network is trained, in a line; empty where all of it is.

    Raises:
        ValueError: a package or a file with weights is not there, a pattern fits nothing, or the
            network takes no such images.
    """
    resolved(config.data.decoder)
    images = config.data.image_size, config.evaluation.resize
    return _build(config.model, config.lora, config.training, config.loss, images)


@lru_cache(maxsize=1)
@phase("building the network")
def _build(
    model: ModelConfig,
    lora: LoraConfig,
    training: TrainingConfig,
    loss: LossConfig,
    images: tuple[int, Resize],
) -> str:
    from apdist.training.learning.freezing import build_trainable, trained_share
    from apdist.training.learning.parameter_groups import parameter_groups

    network = build_trainable(model, lora, training)
    parameter_groups(network, training)
    check_loss(loss, network.dim)
    check_images(network, *images)
    trained, there = trained_share(network, training)
    until = f", more from step {training.unfreeze_at} on" if training.unfreeze_at else ""
    return f"{trained:,} of {there:,} parameters are trained{until}" if trained < there else ""


def check_loss(loss: LossConfig, dim: int) -> None:
    """Build the loss once here, with a few classes in place of those of the data.

    Raises:
        ValueError: a package is not there, or pytorch-metric-learning refuses name or arguments.
    """
    import numpy as np

    from apdist.config.losses import METRIC_LEARNING
    from apdist.loss.building import build_loss

    built = build_loss(loss, np.arange(2), dim)
    if any(kind.startswith(METRIC_LEARNING) for kind in (loss.kind, *loss.terms)):
        try_loss(built, dim)


def try_loss(loss: BatchLoss, dim: int) -> None:
    """Compute a loss of others once: some take no descriptors with labels, or no such argument.

    Raises:
        ValueError: it fails.
    """
    import torch
    from torch.nn.functional import normalize

    noise = torch.randn(8, dim, generator=torch.Generator().manual_seed(0))
    try:
        loss(normalize(noise, dim=1), torch.arange(8) % 2)
    except Exception as error:  # of another package's code
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"loss: {type(loss).__name__} cannot be computed of descriptors and labels with these "
            f"arguments ({reason}); change them, or take another loss"
        ) from error


def with_own_side(config: Config) -> Config:
    """``config`` with the side of its backbone where ``data.image_size`` is 0.

    Raises:
        ValueError: the backbone has none, or is not there.
    """
    if config.data.image_size:
        return config
    from apdist.model.backbones import build_backbone

    with phase("building the network"):
        side = build_backbone(config.model.backbone)[1].side
    if not side:
        raise ValueError(
            f"data.image_size 0 is the side that model.backbone was trained with, and "
            f"{config.model.backbone} is trained from nothing; give one, such as 64"
        )
    return dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=side))


def with_absolute_paths(config: Config) -> Config:
    """Workers run in other folders, perhaps on other machines."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            shards=storage.absolute(config.data.shards),
            exclude=config.data.exclude and storage.absolute(config.data.exclude),
        ),
        evaluation=dataclasses.replace(
            config.evaluation,
            sets=tuple(
                str(dataclasses.replace(found, shards=storage.absolute(found.shards)))
                for found in config.evaluation.named_sets
            ),
        ),
        run=dataclasses.replace(config.run, output=storage.absolute(config.run.output)),
        model=dataclasses.replace(
            config.model,
            backbone=_absolute_backbone(config.model.backbone),
            weights=config.model.weights and storage.absolute(config.model.weights),
        ),
    )


def _absolute_backbone(name: str) -> str:
    """The same backbone, of which a folder is named from the root."""
    kind, _, folder = name.partition(":")
    path = os.path.expanduser(folder)
    return f"{kind}:{os.path.abspath(path)}" if folder and os.path.isdir(path) else name


def train_run(run: Run, resumed: WorkersFailed | None = None) -> int:
    """Train an opened run to its end, with progress, history and tracking.

    Args:
        run: new, or with what has happened so far.
        resumed: how it ended the last time, where it is gone on with; its options may be new.
    """
    from apdist.training.cluster.ends import Interrupted
    from apdist.training.cluster.launch import run_training
    from apdist.training.cluster.metrics import RayMetrics
    from apdist.training.cluster.noise import FILE
    from apdist.training.time_spent import time_spent
    from apdist_verbs.terminal.devices import say_if_idle

    with held(run.uri, say) as run.lease:
        if resumed is not None:
            storage.remove_unfinished(run.uri)
        with phase("opening MLflow" if run.config.tracking.enabled else "opening the run"):
            if run.config.tracking.enabled and "datasets" not in run.info:
                run.info["datasets"] = used_data(run.config)
            follower = Follower(run)
        say(f"run {run.uri}")
        say_if_idle(run.config.ray, "apdist train with --ray.num-workers")
        status = "FAILED"
        try:
            with progress_bar("training", run.config.training.steps) as progress:
                screen = Screen(progress)
                job = Job(run.config, run.uri, lease=run.lease, resumed=resumed)
                run_training(job, follower, screen, RayMetrics(run.name))
            status = "FINISHED"
        except Interrupted:
            status = "FINISHED" if run.is_complete else "KILLED"
            if not run.is_complete:  # else it came too late to stop anything
                again = f"apdist train --resume {shlex.quote(run.uri)}"
                say(f"stopped after step {run.steps_done}; go on with: {again}")
                return 130
        finally:
            with phase("sending the rest to MLflow"):
                is_complete = follower.close(status)
            if not is_complete:
                say(f"MLflow lacks a part of this run; later: apdist track {shlex.quote(run.uri)}")
    spent = time_spent(run.history)
    say(f"time: {spent}")
    say(f"advice: {spent.advice()}")
    say(f"model: {storage.join(run.uri, 'model.safetensors')}")
    if run.config.ray.num_workers:
        say(f"Ray's own output: {storage.join(run.uri, FILE)}")
    if run.config.tracking.enabled:
        say(f"curves: {follower.tracker.where()}")
    return 0
