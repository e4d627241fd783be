"""``apdist sweep PRESET --space SPACE.toml``: search hyper-parameters with Ray Tune."""

import functools
import shlex
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from apdist.config import Config, flatten, override
from apdist.data import storage
from apdist.training.cluster.background import Background
from apdist.training.cluster.launch import Interrupted, build_trainer, loss_explained, ray_cluster
from apdist.training.cluster.remote import Inbox, RemoteLink, remote_mailbox
from apdist.training.cluster.signals import counted_signals
from apdist.training.runs import SWEEP, Run, create_run
from apdist.training.space import Dimension, read_space
from apdist.training.tracking import Tracker
from apdist_verbs.presets import preset, preset_help
from apdist_verbs.terminal.console import say, table, warn
from apdist_verbs.terminal.options import parse
from apdist_verbs.train import Listener, check_data, with_absolute_paths

OBJECTIVE = "map"
POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Options:
    """Search hyper-parameters for the best mAP on held-out classes; each trial is a training."""

    space: Annotated[Path, tyro.conf.arg(help_behavior_hint="(required)")]
    """TOML file with distributions; see docs/sweeps.md."""
    trials: int = 8
    """Trainings to try."""
    scheduler: str = "asha"
    """asha stops trials that fall behind; fifo runs all to their end."""
    max_concurrent: int = 0
    """Most trials at a time; 0: as many as the cluster has room for."""
    config: Annotated[Config, tyro.conf.arg(name="")] = field(default_factory=Config)

    def __post_init__(self) -> None:
        if self.trials < 1 or self.max_concurrent < 0:
            raise ValueError("--trials must be at least 1 and --max-concurrent at least 0")
        if self.scheduler == "pbt":
            raise ValueError(
                "--scheduler pbt does nothing here: Ray Tune gets no checkpoint from a Ray Train "
                "trial and would skip every exploit step silently; use asha"
            )
        if self.scheduler not in ("asha", "fifo"):
            raise ValueError(f"--scheduler must be asha or fifo, got {self.scheduler!r}")


def main(argv: list[str]) -> int:
    """Parse and run."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(
            "usage: apdist sweep PRESET --space SPACE.toml [--trials N] [OPTIONS]\n\n"
            f"presets:\n{preset_help()}\n\napdist sweep PRESET --help lists every option\n"
        )
        return 0
    options = parse(
        tyro.conf.configure(tyro.conf.AvoidSubcommands)(Options),
        argv[1:],
        f"apdist sweep {argv[0]}",
        default=Options(space=Path(), config=preset(argv[0])),
    )
    if options.space == Path():
        raise ValueError("--space SPACE.toml is missing; docs/sweeps.md shows one")
    return sweep(options, argv[0])


def sweep(options: Options, preset_name: str) -> int:
    """Check everything, search, show the trials and the command that trains the best one."""
    config = with_absolute_paths(options.config)
    if not config.data.eval_split:
        raise ValueError("a sweep needs data.eval_split: its objective is mAP on held-out classes")
    if config.ray.num_workers == 0:
        raise ValueError("a sweep needs ray.num_workers of at least 1")
    dimensions = read_space(options.space, config)
    say(check_data(config))
    name = config.run.name or f"sweep-{preset_name}-{time.strftime('%Y%m%d-%H%M%S')}"
    config = override(config, {"run.name": name})
    run = create_run(config, SWEEP + preset_name)
    parent = Tracker(config.tracking, name)
    parent.log_params({d.name: f"{d.distribution} {d.corners()}" for d in dimensions})
    board = Board(run, parent, config, preset_name)
    status = "FAILED"
    try:
        with (
            counted_signals(),
            board.tuner.ended(),
            ray_cluster(config.ray),
            loss_explained(f"finished trials lie in {run.uri}"),
        ):
            results = search(options, config, dimensions, board)
        board.show(results)
        status = "FINISHED"
    except Interrupted:
        status = "KILLED"
        say(f"stopped; finished trials lie in {run.uri}")
        return 130
    finally:
        board.close(status)
    return 0


def search(options: Options, config: Config, dimensions: list[Dimension], board: "Board") -> Any:
    """Run the trials; returns Tune's result grid."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    mailbox = remote_mailbox()
    trainable = tune.with_resources(
        functools.partial(run_trial, config=config, mailbox=mailbox, sweep=board.run.uri),
        # A trial's own driver takes no CPU: on a small cluster that would be one too few for its
        # workers, who would wait for ever. Tune wants it to take something.
        tune.PlacementGroupFactory([{"node:__internal_head__": 0.001}]),
    )
    scheduler: Any = FIFOScheduler()
    if options.scheduler == "asha":
        scheduler = ASHAScheduler(
            time_attr="step",
            # One more than there are: a trial that comes to its end must save its model first.
            max_t=config.training.steps + 1,
            grace_period=min(config.evaluation.every_steps, config.training.steps),
        )
    path, filesystem = storage.for_ray(board.run.uri)
    tuner = tune.Tuner(
        trainable,
        param_space={d.name: d.for_tune() for d in dimensions},
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode="max",
            num_samples=options.trials,
            scheduler=scheduler,
            max_concurrent_trials=options.max_concurrent or concurrent_trials(config),
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=path,
            storage_filesystem=filesystem,
            verbose=0,
            callbacks=[board.releaser()],
        ),
    )
    return board.watch(tuner.fit, Inbox(mailbox))


def concurrent_trials(config: Config) -> int:
    """How many trials the cluster holds; more would wait for each other's workers for ever.

    Raises:
        ValueError: not even one.
    """
    import ray

    there = ray.cluster_resources()
    room = int(there.get("CPU", 0) / (config.ray.num_workers * config.ray.cpus_per_worker))
    if config.ray.use_gpu:
        room = min(room, int(there.get("GPU", 0) / config.ray.num_workers))
    return max(1, room)


def run_trial(params: dict[str, Any], *, config: Config, mailbox: Any, sweep: str) -> None:
    """One training, in a process that Tune starts."""
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    from apdist.training.loop import Job

    trial = tune.get_context().get_trial_id()
    uri = storage.join(sweep, trial)
    trial_config = override(config, {**params, "run.output": sweep, "run.name": trial})
    link = TrialLink(mailbox, trial)
    link.post({"kind": "trial", "params": params})
    job = Job(trial_config, uri, report_metrics)
    build_trainer(job, link, callbacks=[TuneReportCallback()]).fit()


def report_metrics(metrics: dict[str, float]) -> None:
    """Hand the metrics of an evaluation to Tune; every worker must call it."""
    from ray import train

    train.report(metrics)


class TrialLink(RemoteLink):
    """Events of one trial in the sweep's mailbox."""

    def __init__(self, actor: Any, trial: str) -> None:
        super().__init__(actor)
        self.trial = trial

    def post(self, event: dict[str, Any]) -> None:
        """Send with the trial's name, and once with what the workers occupy."""
        if event["kind"] == "start":
            from ray.util import get_current_placement_group

            event["placement_group"] = get_current_placement_group()
        super().post({**event, "trial": self.trial})


class Board:
    """The trials of a sweep: their run folders, MLflow runs and what is shown of them."""

    def __init__(self, run: Run, parent: Tracker, config: Config, preset_name: str) -> None:
        self.run, self.parent, self.config, self.preset_name = run, parent, config, preset_name
        self.tuner = Background("tuner")
        self.listeners: dict[str, Listener] = {}
        self.groups: dict[str, Any] = {}

    def watch(self, fit: Any, take: Any) -> Any:
        """Run ``fit`` in a thread, hand on events, end at Ctrl-C."""
        with counted_signals() as signals:
            self.tuner.start(fit)
            finished = False
            while not finished:
                if signals:
                    raise Interrupted
                finished = not self.tuner.is_running()
                for event in take(finished):
                    self.on_event(event)
                self.tuner.wait(POLL_S)
        return self.tuner.result()

    def releaser(self) -> Any:
        """A callback for Tune that gives back what the workers of an ended trial occupy.

        Tune ends the trial's own process; Ray Train learns of that from the dashboard, if there is
        one and no second Ray on the machine. Else the next trial would wait for ever.
        """
        from ray import tune
        from ray.util import remove_placement_group

        groups = self.groups

        class Releaser(tune.Callback):
            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
                del iteration, trials
                if group := groups.pop(trial.trial_id, None):
                    remove_placement_group(group)

            on_trial_error = on_trial_complete

        return Releaser()

    def on_event(self, event: dict[str, Any]) -> None:
        """Handle an event of a trial."""
        trial = event.pop("trial")
        if group := event.pop("placement_group", None):
            self.groups[trial] = group
        if event["kind"] == "trial":
            self.add(trial, event["params"])
        elif event["kind"] == "error":
            warn(f"trial {trial}: {event['text']}")
        elif event["kind"] == "evaluation":
            self.listeners[trial].run.add(event)
            self.listeners[trial].track({f"eval_{k}": v for k, v in event.items()} | event)
            say(f"trial {trial}: step {event['step']}, mAP {event['map']:.4f}")
        else:
            self.listeners[trial](event)

    def add(self, trial: str, params: dict[str, Any]) -> None:
        """A trial begins: its run folder and its MLflow run."""
        config = override(self.config, {**params, "run.output": self.run.uri, "run.name": trial})
        run = create_run(config, self.preset_name)
        tracker = Tracker(config.tracking, trial, parent_id=self.parent.run_id)
        run.tracking_run_id = tracker.run_id
        run.save_info()
        tracker.log_params(flatten(config))
        self.listeners[trial] = Listener(run, tracker, _no_bar)
        say(f"trial {trial}: {', '.join(f'{k} {_short(v)}' for k, v in params.items())}")

    def show(self, results: Any) -> None:
        """The trials, best first, and the command that trains the best one."""
        done = [r for r in results if r.metrics and OBJECTIVE in r.metrics]
        if not done:
            raise ValueError(f"no trial was evaluated; the first error: {_first_error(results)}")
        done.sort(key=lambda r: -r.metrics[OBJECTIVE])
        names = list(done[0].config)
        rows = [
            [
                r.metrics["trial_id"],
                *(_short(r.config[name]) for name in names),
                f"{r.metrics['step']:.0f}",
                f"{r.metrics[OBJECTIVE]:.4f}",
            ]
            for r in done
        ]
        table(f"{len(done)} trials of {self.run.name}", ["trial", *names, "steps", "mAP"], rows)
        best = done[0]
        self.parent.log_metrics({"best_map": best.metrics[OBJECTIVE]}, 0)
        self.parent.set_tag("apdist.best_trial", best.metrics["trial_id"])
        say("train the best one:")
        say("  " + training_command(self.preset_name, self.config, best.config))

    def close(self, status: str) -> None:
        """End all MLflow runs."""
        for listener in self.listeners.values():
            listener.run.save_history()
            ended = bool(listener.run.of_kind("end"))
            listener.tracker.close("FINISHED" if ended else "KILLED")
        self.parent.close(status)


def training_command(preset_name: str, config: Config, params: dict[str, Any]) -> str:
    """The `apdist train` command with the sweep's own changes to the preset and ``params``."""
    start = flatten(with_absolute_paths(preset(preset_name)))
    changes = {
        name: value
        for name, value in {**flatten(config), **params}.items()
        if value != start[name] and not name.startswith("run.")
    }
    return " ".join(["apdist train", preset_name, *(_option(k, v) for k, v in changes.items())])


def _option(name: str, value: Any) -> str:
    section, option = name.replace("_", "-").split(".")
    if isinstance(value, bool):
        return f"--{section}.{option}" if value else f"--{section}.no-{option}"
    return f"--{section}.{option} {shlex.quote(str(value))}"


def _no_bar(done: int, note: str = "") -> None:
    """Trials run beside each other: their evaluations are shown, not their steps."""
    del done, note


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _first_error(results: Any) -> str:
    errors = [r.error for r in results if r.error]
    return str(errors[0]).strip().splitlines()[-1] if errors else "none"
