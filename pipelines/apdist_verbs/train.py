"""``apdist train PRESET`` or ``apdist train --resume RUN``."""

import dataclasses
import os
import shlex
import sys

from apdist.config import Config
from apdist.data import storage
from apdist.training.events import WorkersFailed
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import Run, create_run
from apdist.training.tracking.following import Follower
from apdist_verbs.presets import preset, preset_help
from apdist_verbs.resume import resume
from apdist_verbs.terminal import options
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.progress import phase, progress_bar
from apdist_verbs.terminal.screen import Screen


def usage() -> str:
    """Help before the options."""
    return (
        "usage: apdist train PRESET [OPTIONS]     train anew\n"
        "       apdist train --resume RUN [OPTIONS]\n"
        "                                         go on from the run's last checkpoint\n"
        "       apdist train --resume RUN --fork [OPTIONS]\n"
        "                                         begin another run at that checkpoint\n\n"
        f"presets:\n{preset_help()}\n\n"
        "apdist train PRESET --help lists every option with the preset's values\n"
    )


def main(argv: list[str]) -> int:
    """Parse and run."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if argv[0] == "--resume":
        return resume(argv[1:])
    config = parse(argv)
    run = new_run(config, argv[0])
    try:
        return train_run(run)
    except (ValueError, OSError):
        run.discard_if_untouched()
        raise


def parse(argv: list[str]) -> Config:
    """The preset ``argv[0]`` with the options that follow."""
    return options.parse(
        Config,
        argv[1:],
        f"apdist train {argv[0]}",
        default=preset(argv[0]),
        description="Train with the three-stage average-precision step.",
    )


def new_run(config: Config, preset_name: str) -> Run:
    """Check data and options before anything starts, then make the run's folder.

    Raises:
        ValueError: a batch cannot be filled, a split is missing, the run exists.
    """
    config = with_absolute_paths(config)
    say(check_data(config))
    check_model(config)
    return create_run(config, preset_name)


@phase("reading the catalogue")
def check_data(config: Config) -> str:
    """What the plan uses and leaves out, in a line.

    Raises:
        ValueError: a batch cannot be filled, or a split is missing.
    """
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.data.catalogue.selection import evaluation_images, training_images
    from apdist.data.plan.plan import build_plan

    if config.data.cache_dir and os.path.isfile(config.data.cache_dir):
        raise ValueError(f"data.cache_dir {config.data.cache_dir} is a file; give a folder")
    catalogue, seed = read_catalogue(config.data.shards), config.training.seed
    if config.data.eval_split:
        evaluation_images(catalogue, config.data, seed)
    facts = build_plan(training_images(catalogue, config.data, seed).labels, config).summary
    lone = f", {facts.num_lone_classes} classes with one image left out"
    capped = f", {facts.num_capped_classes} classes rarer than their weight"
    return (
        f"{config.data.shards}: {facts.num_images} training images of {facts.num_classes} classes"
        f"{lone if facts.num_lone_classes else ''}{capped if facts.num_capped_classes else ''}; "
        f"{facts.steps_per_epoch} steps an epoch"
    )


@phase("building the network")
def check_model(config: Config) -> None:
    """Build the network once here: what is missing should not be found on a cluster.

    Raises:
        ValueError: a package or a file with weights is not there.
    """
    from apdist.model.pretrained import build_model

    build_model(config.model)


def with_absolute_paths(config: Config) -> Config:
    """Workers run in other folders, perhaps on other machines."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data,
            shards=storage.absolute(config.data.shards),
            exclude=config.data.exclude and storage.absolute(config.data.exclude),
        ),
        run=dataclasses.replace(config.run, output=storage.absolute(config.run.output)),
        model=dataclasses.replace(
            config.model, weights=config.model.weights and storage.absolute(config.model.weights)
        ),
    )


def train_run(run: Run, resumed: WorkersFailed | None = None) -> int:
    """Train an opened run to its end, with progress, history and tracking.

    Args:
        run: new, or with what has happened so far.
        resumed: how it ended the last time.
    """
    from apdist.training.cluster.launch import Interrupted, run_training
    from apdist.training.loop import Job

    with held(run.uri, say) as lease:
        with phase("opening MLflow" if run.config.tracking.enabled else "opening the run"):
            follower = Follower(run)
        say(f"run {run.uri}")
        status = "FAILED"
        try:
            with progress_bar("training", run.config.training.steps) as progress:
                screen = Screen(run.config.data.eval_split, progress)
                job = Job(run.config, run.uri, lease=lease, resumed=resumed)
                run_training(job, follower, screen)
            status = "FINISHED"
        except Interrupted:
            status = "KILLED"
            again = f"apdist train --resume {shlex.quote(run.uri)}"
            say(f"stopped after step {run.steps_done}; go on with: {again}")
            return 130
        finally:
            with phase("sending the rest to MLflow"):
                is_complete = follower.close(status)
            if not is_complete:
                say(f"MLflow lacks a part of this run; later: apdist track {shlex.quote(run.uri)}")
    say(f"model: {storage.join(run.uri, 'model.safetensors')}")
    if run.config.tracking.enabled:
        say(f"curves: {follower.tracker.where()}")
    return 0
