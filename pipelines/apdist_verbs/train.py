"""``apdist train PRESET`` or ``apdist train --resume RUN``."""

import dataclasses
import os
import shlex
import sys

from apdist.config import Config, flatten
from apdist.data import storage
from apdist.training.events import Event
from apdist.training.runs import Run, create_run, open_run
from apdist.training.tracking import Tracker
from apdist_verbs.presets import preset, preset_help
from apdist_verbs.terminal import options
from apdist_verbs.terminal.console import Update, progress_bar, say, warn


def usage() -> str:
    """Help before the options."""
    return (
        "usage: apdist train PRESET [OPTIONS]     train anew\n"
        "       apdist train --resume RUN         go on from the run's last checkpoint\n\n"
        f"presets:\n{preset_help()}\n\n"
        "apdist train PRESET --help lists every option with the preset's values\n"
    )


def main(argv: list[str]) -> int:
    """Parse and run."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if argv[0] == "--resume":
        if len(argv) != 2:
            raise ValueError("expected `apdist train --resume RUN` and no other option")
        run = open_run(storage.absolute(argv[1]))
        if run.of_kind("end"):
            say(f"{run.uri} has done all its {run.config.training.steps} steps")
            return 0
        return train_run(run)
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
    from apdist.data.catalogue.catalogue import read_index
    from apdist.data.catalogue.selection import evaluation_images, training_images
    from apdist.data.plan.plan import build_plan

    if config.data.cache_dir and os.path.isfile(config.data.cache_dir):
        raise ValueError(f"data.cache_dir {config.data.cache_dir} is a file; give a folder")
    index, seed = read_index(config.data.shards), config.training.seed
    if config.data.eval_split:
        evaluation_images(index, config.data, seed)
    facts = build_plan(training_images(index, config.data, seed).labels, config).summary
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


def train_run(run: Run) -> int:
    """Train an opened run to its end, with progress, history and tracking."""
    from apdist.training.cluster.launch import Interrupted, run_training
    from apdist.training.loop import Job

    tracker = Tracker(run.config.tracking, run.name, run_id=run.tracking_run_id)
    if not run.tracking_run_id:
        run.tracking_run_id = tracker.run_id
        run.save_info()
        tracker.log_params({**flatten(run.config), "preset": run.preset})
        tracker.set_tag("apdist.run", run.uri)
    workers = run.config.ray.num_workers
    say(f"run {run.uri}")
    say(f"starting {f'Ray with {workers} workers' if workers else 'in this process'} ...")
    status = "FAILED"
    try:
        with progress_bar("training", run.config.training.steps) as update:
            run_training(Job(run.config, run.uri), Listener(run, tracker, update))
        status = "FINISHED"
    except Interrupted:
        status = "KILLED"
        done = run.history[-1]["step"] if run.history else 0
        say(f"stopped after step {done}; go on with: apdist train --resume {shlex.quote(run.uri)}")
        return 130
    finally:
        run.save_history()
        tracker.close(status)
    say(f"model: {storage.join(run.uri, 'model.safetensors')}")
    if run.config.tracking.enabled:
        say(f"curves: {tracker.where()}")
    return 0


class Listener:
    """Shows, stores and tracks what the workers tell."""

    def __init__(self, run: Run, tracker: Tracker, update: Update) -> None:
        self.run, self.tracker, self.update = run, tracker, update

    def __call__(self, event: Event) -> None:
        """Handle one event."""
        handler = getattr(self, f"on_{event['kind']}", None)
        if handler is not None:
            handler(event)

    def on_start(self, event: Event) -> None:
        """Workers are up, perhaps again after a failure."""
        self.run.rewind(event["step"])
        if event["step"]:
            say(f"going on from step {event['step']}")
        say(f"activations: {event['activations']} ({event['activations_reason']})")
        self.tracker.set_tag("apdist.activations", event["activations"])
        self.update(event["step"], "")

    def on_step(self, event: Event) -> None:
        """A step is done."""
        self.run.add(event)
        self.track(event)
        precision = f"binned mAP {event['binned_map']:.3f}  " if "binned_map" in event else ""
        self.update(
            event["step"],
            f"loss {event['loss']:.4f}  {precision}{event['images_per_s']:.0f} images/s",
        )

    def on_evaluation(self, event: Event) -> None:
        """The evaluation split was measured."""
        self.run.add(event)
        self.track({**{f"eval_{k}": v for k, v in event.items()}, "step": event["step"]})
        say(
            f"step {event['step']}: {self.run.config.data.eval_split} mAP {event['map']:.4f}, "
            f"R@1 {event['recall_at_1']:.4f}, R-precision {event['r_precision']:.4f}"
        )

    def on_similarities(self, event: Event) -> None:
        """How similar the pairs of a batch were; for the report."""
        self.run.add(event)

    def on_checkpoint(self, _event: Event) -> None:
        """A checkpoint is written; history in object storage follows it."""
        self.run.catch_up()

    def on_warning(self, event: Event) -> None:
        """A worker warns."""
        warn(event["text"])

    def on_stopping(self, _event: Event) -> None:
        """The first Ctrl-C."""
        say("stopping: the workers finish their step and write a checkpoint (again to end at once)")

    def on_end(self, event: Event) -> None:
        """The last step is done and the model saved."""
        self.run.add(event)

    def track(self, event: Event) -> None:
        """Log the event's figures."""
        figures = {k: v for k, v in event.items() if isinstance(v, int | float) and k != "step"}
        self.tracker.log_metrics(figures, event["step"])
