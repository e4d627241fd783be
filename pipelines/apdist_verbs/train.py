"""``apdist train PRESET`` or ``apdist train --resume RUN``."""

import dataclasses
import os
import shlex
import sys

from apdist.config import Config
from apdist.data import storage
from apdist.figures import EVALUATION, STEP, texts
from apdist.training.events import (
    CheckpointWritten,
    Ended,
    Evaluated,
    Event,
    Failed,
    Restarted,
    Similarities,
    Started,
    StepDone,
    Stopping,
    TrialStarted,
    Warned,
    WorkersFailed,
    unhandled,
)
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import Run, create_run
from apdist.training.tracking.following import Follower
from apdist_verbs.presets import preset, preset_help
from apdist_verbs.resume import resume
from apdist_verbs.terminal import options
from apdist_verbs.terminal.console import Update, progress_bar, say, warn


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


def check_data(config: Config) -> str:
    """What the plan uses and leaves out, in a line.

    Raises:
        ValueError: a batch cannot be filled, or a split is missing.
    """
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.data.catalogue.selection import evaluation_images, training_images
    from apdist.data.plan.batch_sampler import build_plan

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
    from apdist_verbs.devices import say_if_idle

    with held(run.uri, say) as lease:
        follower = Follower(run)
        workers = run.config.ray.num_workers
        say(f"run {run.uri}")
        say_if_idle(run.config.ray, "apdist train with --ray.use-gpu")
        say(f"starting {f'Ray with {workers} workers' if workers else 'in this process'} ...")
        status = "FAILED"
        try:
            with progress_bar("training", run.config.training.steps) as update:
                screen = Screen(run.config.data.eval_split, update)
                job = Job(run.config, run.uri, lease=lease, resumed=resumed)
                run_training(job, follower, screen)
            status = "FINISHED"
        except Interrupted:
            status = "KILLED"
            again = f"apdist train --resume {shlex.quote(run.uri)}"
            say(f"stopped after step {run.steps_done}; go on with: {again}")
            return 130
        finally:
            if not follower.close(status):
                say(f"MLflow lacks a part of this run; later: apdist track {shlex.quote(run.uri)}")
    say(f"model: {storage.join(run.uri, 'model.safetensors')}")
    if run.config.tracking.enabled:
        say(f"curves: {follower.tracker.where()}")
    return 0


class Screen:
    """Shows what the workers tell; a listener of `cluster.watch`."""

    def __init__(self, split: str, update: Update) -> None:
        self.split, self.update = split, update

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Started():  # perhaps again after a failure
                if event.step:
                    say(f"going on from step {event.step}")
                say(f"activations: {event.activations} ({event.activations_reason})")
                self.update(event.step, "")
            case StepDone():
                self.update(event.step, "  ".join(texts(STEP, event.figures)))
            case Evaluated():
                found = ", ".join(texts(EVALUATION, event.figures))
                say(f"step {event.step}: {self.split} {found}")
            case Warned():
                warn(event.text)
            case Stopping():
                say(
                    "stopping: the workers finish their step and write a checkpoint "
                    "(again to end at once)"
                )
            case Restarted():
                say(str(event))
            case Similarities() | CheckpointWritten() | Ended() | Failed() | TrialStarted():
                pass  # for others: a failure ends the run, the sweep shows its trials
            case WorkersFailed():
                warn(f"{event}; starting again" if event.ranks else str(event))
            case _:
                unhandled(event)
