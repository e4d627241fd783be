"""``apdist sweep PRESET --space SPACE.toml``: search hyper-parameters with Ray Tune."""

import functools
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from apdist.config import Config, flatten, override
from apdist.config.loss_section import fitting
from apdist.data import storage
from apdist.data.decoders import resolved
from apdist.training.cluster.credentials import credentials_kept
from apdist.training.cluster.launch import (
    Interrupted,
    arrival,
    loss_explained,
    ray_cluster,
    resources_of_nodes,
    told_as_stop,
)
from apdist.training.cluster.noise import FILE
from apdist.training.cluster.remote import Inbox, remote_mailbox
from apdist.training.cluster.room import uses_gpus
from apdist.training.cluster.signals import counted_signals
from apdist.training.events import FromTrial, now_ms
from apdist.training.run_folder.runs import SWEEP, Run, create_run
from apdist.training.space import Dimension, losses_of, read_space
from apdist.training.tracking.surroundings import surroundings
from apdist.training.tracking.tracker import Tracker
from apdist_verbs.presets import preset_help
from apdist_verbs.start.checks import check_new_run, refuse_incomplete, refuse_useless
from apdist_verbs.start.start import COMMON, Configured, Start, start_of
from apdist_verbs.start.trials import OBJECTIVE, Board, run_trial, short
from apdist_verbs.terminal.console import say, table
from apdist_verbs.terminal.fields import Argument
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import Progress, phase, shown
from apdist_verbs.train import (
    check_data,
    check_loss,
    check_model,
    discarded_if_refused,
    used_data,
    with_absolute_paths,
    with_own_side,
)


@dataclass(frozen=True, kw_only=True)
class Options(Configured):
    """Search hyper-parameters for the best mAP on held-out classes; each trial is a training."""

    space: Annotated[Path, Argument(hint="required")]
    """TOML file with distributions; see docs/sweeps.md."""
    trials: int = 8
    """Trainings to try."""
    scheduler: str = "asha"
    """asha stops trials that fall behind; fifo runs all to their end."""
    max_concurrent: int = 0
    """Most trials at a time; 0: as many as the cluster has room for."""

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
        sys.stdout.write(usage())
        return 0
    options, start = read_options(argv)
    return sweep(options, start, argv)


def usage() -> str:
    """Help before the options."""
    return (
        "usage: apdist sweep PRESET --space SPACE.toml [--trials N] [OPTIONS]\n"
        "       apdist sweep --config FILE --space SPACE.toml [--trials N] [OPTIONS]\n"
        "                                         from the options of a run's config.json,\n"
        "                                         or the same in TOML\n\n"
        f"presets:\n{preset_help()}\n\n"
        "apdist sweep PRESET --help shows the options that people change, --help-all the rest\n"
    )


def read_options(argv: list[str]) -> tuple[Options, Start]:
    """The options, and what they start from.

    Raises:
        ValueError: neither a preset nor a file, or an option is wrong or missing.
    """
    start, given = start_of(argv, "sweep", "PRESET --space SPACE.toml")
    options = parse(
        Options,
        given,
        start.prog,
        default=Options(space=Path(), config=start.config),
        common=("--space", "--trials", "--scheduler", "--max-concurrent", *COMMON),
    )
    refuse_incomplete(options.config)
    if options.space == Path():
        raise ValueError("--space SPACE.toml is missing; docs/sweeps.md shows one")
    return options, start


def sweep(options: Options, start: Start, argv: list[str]) -> int:
    """Check everything, search, show the trials and the command that trains the best one.

    Args:
        options: those of ``argv``.
        start: what they are on top of.
        argv: what stands after the verb.
    """
    from apdist_verbs.terminal.devices import say_if_idle

    config = with_own_side(with_absolute_paths(options.config))
    if not config.data.eval_split:
        raise ValueError("a sweep needs data.eval_split: its objective is mAP on held-out classes")
    if config.ray.num_workers == 0:
        raise ValueError("a sweep needs ray.num_workers of at least 1")
    dimensions = read_space(options.space, config)
    losses = losses_of(dimensions, config)
    refuse_useless(argv, *losses)
    check_new_run(config)
    say(check_data(config))
    for changes in [{}, *named_parts(dimensions)]:
        check_model(override(config, changes))
    for loss in losses:
        check_loss(loss, config.model.dim or 64)
    say_if_idle(config.ray, "apdist sweep with --ray.num-workers")
    name = config.run.name or f"sweep-{start.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    config = override(config, {"run.name": name})
    run = create_run(config, SWEEP + start.name)
    with discarded_if_refused(run):
        return search_and_show(options, run, dimensions, start)


def named_parts(dimensions: list[Dimension]) -> list[dict[str, Any]]:
    """Values of ``dimensions`` that name parts of the network, which it may not have."""
    names = ("training.freeze", "training.rates", "lora.")
    return [{d.name: v} for d in dimensions if d.name.startswith(names) for v in d.corners()]


def search_and_show(options: Options, run: Run, dimensions: list[Dimension], start: Start) -> int:
    """Search into the folder of a sweep, and show what was found."""
    config = run.config
    with phase("opening MLflow"):
        parent = Tracker(config.tracking, run.name)
    run.info["tracking_run_id"] = parent.run_id  # what `forget` needs
    run.info["datasets"] = used_data(config) if config.tracking.enabled else []
    space = {d.name: f"{d.distribution} {d.corners()}" for d in dimensions}
    parent.begin(space, surroundings(), run.info["datasets"])
    board = Board(run, parent, config, start.name, Progress("trials", options.trials))
    board.progress.phase(arrival(config.ray))
    status, log = "FAILED", storage.join(run.uri, FILE)
    try:
        with (
            counted_signals() as signals,
            told_as_stop(signals),
            shown(board.progress),
            board.tuner.ended(),
            ray_cluster(config.ray, log),
            credentials_kept(),
            loss_explained(f"finished trials lie in {run.uri}, Ray's own output in {log}"),
        ):
            board.progress.phase("starting the trials")
            results = search(options, config, dimensions, board)
        show(board, results, start)
        say(f"Ray's own output: {log}")
        status = "FINISHED"
    except Interrupted:
        status = "KILLED"
        say(f"stopped; finished trials lie in {run.uri}")
        return 130
    finally:
        with phase("sending the rest to MLflow"):
            board.close(status)
    return 0


def search(options: Options, config: Config, dimensions: list[Dimension], board: Board) -> Any:
    """Run the trials; returns Tune's result grid."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    mailbox = remote_mailbox()
    trainable = tune.with_resources(
        functools.partial(
            run_trial,
            config=config,
            preset_name=board.preset_name,
            mailbox=mailbox,
            sweep=board.run.uri,
        ),
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
    return board.watch(tuner.fit, Inbox[FromTrial](mailbox))


def concurrent_trials(config: Config) -> int:
    """How many trials the cluster holds; more would wait for each other's workers for ever.

    Raises:
        ValueError: not even one.
    """
    import ray

    there = ray.cluster_resources()
    room = int(there.get("CPU", 0) / (config.ray.num_workers * config.ray.cpus_per_worker))
    if uses_gpus(config.ray, resources_of_nodes()):
        room = min(room, int(there.get("GPU", 0) / config.ray.num_workers))
    return max(1, room)


def show(board: Board, results: Any, start: Start) -> None:
    """The trials, best first, and the command that trains the best one."""
    done = [r for r in results if r.metrics and OBJECTIVE in r.metrics]
    if not done:
        raise ValueError(f"no trial was evaluated; the first error: {_first_error(results)}")
    done.sort(key=lambda r: -r.metrics[OBJECTIVE])
    names = list(done[0].config)
    rows = [
        [
            r.metrics["trial_id"],
            *(short(fitting(r.config, board.config.loss).get(name, "-")) for name in names),
            f"{r.metrics['step']:.0f}",
            f"{r.metrics[OBJECTIVE]:.4f}",
        ]
        for r in done
    ]
    table(f"{len(done)} trials of {board.run.name}", ["trial", *names, "steps", "mAP"], rows)
    best = done[0]
    board.parent.log_metrics({"best_map": best.metrics[OBJECTIVE]}, 0, now_ms())
    board.parent.set_tag("apdist.best_trial", best.metrics["trial_id"])
    say("train the best one:")
    params = fitting(best.config, board.config.loss)
    say("  " + training_command(start, board.config, params))


def training_command(start: Start, config: Config, params: dict[str, Any]) -> str:
    """The `apdist train` command with the sweep's own changes to its start and ``params``."""
    before = flatten(with_absolute_paths(start.config))
    config = override(config, params)
    after = flatten(config)
    if before["data.decoder"] == "auto" and after["data.decoder"] == resolved("auto"):
        after["data.decoder"] = "auto"  # it was resolved when the sweep began
    changes = {
        name: value
        for name, value in after.items()
        if value != before[name] and not name.startswith("run.")
    }
    return " ".join(
        [
            *("apdist", "train"),
            *(shlex.quote(word) for word in start.words),
            *(_option(k, v) for k, v in fitting(changes, config.loss).items()),
        ]
    )


def _option(name: str, value: Any) -> str:
    section, option = name.replace("_", "-").split(".")
    if isinstance(value, bool):
        return f"--{section}.{option}" if value else f"--{section}.no-{option}"
    if isinstance(value, tuple):
        words = " ".join(shlex.quote(str(part)) for part in value)
        return f"--{section}.{option} {words}" if value else f"--{section}.{option}="
    return f"--{section}.{option} {shlex.quote(str(value))}"


def _first_error(results: Any) -> str:
    errors = [r.error for r in results if r.error]
    return str(errors[0]).strip().splitlines()[-1] if errors else "none"
