"""``apdist sweep PRESET --space SPACE.toml``: search hyper-parameters with Ray Tune."""

import math
import shlex
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from apdist.config import override
from apdist.data import storage
from apdist.data.text import decoded
from apdist.training.cluster.credentials import credentials_kept
from apdist.training.cluster.ends import Interrupted, lost_cluster_explained, told_as_stop
from apdist.training.cluster.joining import SMALLER, arrival, ray_cluster
from apdist.training.cluster.noise import RAY_LOG_NAME
from apdist.training.cluster.signals import counted_signals
from apdist.training.run_folder.lease import held, refuse_if_held
from apdist.training.run_folder.runs import SWEEP, create_run
from apdist.training.sweeps.driving import Driver, SweepPlan
from apdist.training.sweeps.ranking import by_setting, read_objective
from apdist.training.sweeps.schedulers import PBT, SCHEDULERS
from apdist.training.sweeps.searchers import SEARCHERS, grid, optuna_here
from apdist.training.sweeps.space import losses_of, read_space
from apdist.training.sweeps.state import SweepState, read_state
from apdist_verbs.presets import preset_help
from apdist_verbs.start.checks import (
    check_new_run,
    check_surroundings,
    refuse_incomplete,
    refuse_useless,
)
from apdist_verbs.start.completing import with_absolute_paths, with_own_side
from apdist_verbs.start.data_check import check_data
from apdist_verbs.start.running import discarded_if_refused
from apdist_verbs.start.start import COMMON, Configured, Start, start_of
from apdist_verbs.sweeping.begun import (
    Begun,
    open_begun,
    open_parent,
    send_page,
    starting_settings,
    watched_split,
)
from apdist_verbs.sweeping.board import Board
from apdist_verbs.sweeping.checks import (
    refuse_unfit,
    refuse_unfit_metric_learning,
    refuse_unfit_networks,
    refuse_unfit_space,
)
from apdist_verbs.sweeping.finals import finalists, measure_finals
from apdist_verbs.sweeping.showing import show
from apdist_verbs.sweeping.spaces import SPACES, space_file, space_help
from apdist_verbs.terminal.bounds import at_least
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import Argument
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase, shown
from apdist_verbs.terminal.sweep_screen import SweepScreen

USUAL_TRIALS = 8
UNSAID = -1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Go on with a sweep: finished trials stay, those that ran go on from their checkpoints."""

    trials: Annotated[int, Argument(hint="default: 8, of a grid all")] = UNSAID
    """Settings to try in all, each trained --repeats times."""
    max_hours: float = 0.0
    """Begin no other trial and stop those that run after so many hours; 0: no limit."""
    max_concurrent: int = 0
    """Most trials at a time; 0: as many as the cluster has room for."""
    test_best: int = 3
    """Best settings that are measured on `data.eval_split` and the sets when all trials are over,
    each trial once; 0: none."""

    def __post_init__(self) -> None:
        if self.trials != UNSAID:
            at_least(1, trials=self.trials)
        at_least(0, max_concurrent=self.max_concurrent, test_best=self.test_best)
        at_least(0, max_hours=self.max_hours)
        if self.max_hours == math.inf:
            raise ValueError("--max-hours must be a number, got inf; 0 is no limit")

    @property
    def settings(self) -> int:
        """Settings that were asked for; 0: nobody said how many."""
        return max(self.trials, 0)


@dataclass(frozen=True, kw_only=True)
class Options(Configured, Limits):
    """Search hyper-parameters for the best mAP on held-out classes; each trial is a training."""

    space: Annotated[Path, Argument(hint="required")]
    """TOML file with distributions, see docs/sweeps.md; or the name of a space that is there."""
    searcher: str = "random"
    """random; grid goes through all values in order; tpe learns from what was tried (extra
    `optuna`)."""
    scheduler: str = "asha"
    """asha lets a quarter of the trials that reach a rung go on; median stops what is worse than
    half of the others; none lets all come to their end."""
    repeats: int = 1
    """Trainings of each setting, with seeds that count on; settings are ranked by their mean."""
    objective: tuple[str, ...] = ("map",)
    """A figure on held-out classes, or two; `-` before one that is to be small, which stands behind
    a comma or `=`: map,-model.dim. Further ones: images_per_s, and options that are numbers.
    Trials are stopped, and the best setting is chosen, by the first; two give a table of those
    that none is better than."""
    warm_start: tuple[str, ...] = ()
    """Folders of runs, such as the trials of another sweep, whose settings are tried first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheduler == "pbt":
            raise ValueError(PBT)
        for name, known in (("scheduler", SCHEDULERS), ("searcher", SEARCHERS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"--{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        if self.repeats < 1:
            raise ValueError(f"--repeats must be at least 1, got {self.repeats}")
        if len(self.figures) not in (1, 2):
            raise ValueError(f"--objective takes one or two figures, got {len(self.figures)}")
        if len({figure.removeprefix("-") for figure in self.figures}) < len(self.figures):
            raise ValueError(f"--objective names {self.figures[0]} twice; give two figures")
        if self.searcher == "tpe":
            optuna_here()

    @property
    def figures(self) -> list[str]:
        """The objectives, each with its sign."""
        return [figure for text in self.objective for figure in text.split(",") if figure]


def main(argv: list[str]) -> int:
    """Parse and run."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if argv[0] == "--resume":
        return resume(argv[1:])
    options, start = read_options(argv)
    return sweep(options, start, argv)


def usage() -> str:
    """Help before the options."""
    return (
        "usage: apdist sweep PRESET --space SPACE.toml [--trials N] [OPTIONS]\n"
        "       apdist sweep --config FILE --space SPACE.toml [--trials N] [OPTIONS]\n"
        "                                 from the options of a run's config.json,\n"
        "                                 or the same in TOML\n"
        "       apdist sweep --resume SWEEP [--trials N]\n"
        "                                 go on with a sweep, perhaps to more trials\n\n"
        f"presets:\n{preset_help()}\n\n"
        f"spaces that are there, as --space paper:\n{space_help()}\n\n"
        "apdist sweep PRESET --help shows what people change, --help-all the rest\n"
    )


def read_options(argv: list[str]) -> tuple[Options, Start]:
    """The options, and what they start from.

    Raises:
        ValueError: neither a preset nor a file, or an option is wrong or missing.
    """
    start, given = start_of(argv, "sweep", "PRESET --space SPACE.toml")
    own = ("trials", "searcher", "scheduler", "repeats", "objective", "max-hours", "max-concurrent")
    options = parse(
        Options,
        given,
        start.prog,
        default=Options(space=Path(), config=start.config),
        common=("--space", *(f"--{name}" for name in own), "--warm-start", "--test-best", *COMMON),
    )
    refuse_incomplete(options.config)
    if options.space == Path():
        raise ValueError(
            "--space SPACE.toml is missing: give a file with distributions, or one of "
            f"{', '.join(SPACES)}"
        )
    return options, start


def sweep(options: Options, start: Start, argv: list[str]) -> int:
    """Check everything, search, show the settings and the command that trains the best one.

    Args:
        options: those of ``argv``.
        start: what they are on top of.
        argv: what stands after the verb.
    """
    config = with_own_side(with_absolute_paths(options.config))
    if not config.data.eval_split:
        raise ValueError("a sweep needs data.eval_split: the best trials are measured on it")
    if config.ray.is_elastic:
        raise ValueError(
            f"ray.num_workers {config.ray.num_workers}: the trials of a sweep share the cluster, "
            "so each has a fixed number of workers; use --ray.num-workers "
            f"{config.ray.least_workers}"
        )
    if config.ray.num_workers == 0:
        raise ValueError("a sweep needs ray.num_workers of at least 1")
    objectives = tuple(read_objective(text, config) for text in options.figures)
    space = space_file(options.space)
    dimensions = read_space(space, config)
    losses = losses_of(dimensions, config)
    refuse_unfit_metric_learning(losses, config.model.dim or 64)
    refuse_useless(argv, *losses)
    settings = options.settings or USUAL_TRIALS
    if options.searcher == "grid":
        every = sum(1 for _ in grid(dimensions))
        settings = min(options.settings or every, every)
    starting = starting_settings(options.warm_start, dimensions)
    check_new_run(config)
    refuse_unfit_space(dimensions, config)
    say(check_data(config))
    refuse_unfit_networks(dimensions, config)
    # Here: it needs torch, and what is refused before does not wait for that.
    from apdist_verbs.terminal.devices import say_if_idle

    say_if_idle(config.ray, "apdist sweep with --ray.num-workers")
    name = config.run.name or f"sweep-{start.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run = create_run(override(config, {"run.name": name}), SWEEP + start.name)
    plan = SweepPlan(
        name=run.name,
        searcher=options.searcher,
        scheduler=options.scheduler,
        settings=settings,
        repeats=options.repeats,
        objectives=objectives,
        starting=starting,
        test_best=options.test_best,
        max_concurrent=options.max_concurrent,
    )
    with discarded_if_refused(run):
        begun = Begun(run, start, decoded(space.read_bytes()), plan)
        begun.save()
        return search_and_show(begun, SweepState(run.uri), options)


def resume(argv: list[str]) -> int:
    """Go on with the sweep ``argv[0]``."""
    named, given = sweep_and_options(argv)
    uri, prog = storage.absolute(named), f"apdist sweep --resume {shlex.quote(named)}"
    if {"-h", "--help", "--help-all"} & set(given):
        parse(Limits, given, prog)
    plan = open_begun(uri, 0).plan
    kept = Limits(test_best=plan.test_best, max_concurrent=plan.max_concurrent)
    limits = parse(Limits, given, prog, default=kept)
    begun, drawn = open_begun(uri, limits.settings), len(by_setting(read_state(uri).records))
    if begun.plan.settings < drawn:
        raise ValueError(
            f"--trials {limits.trials}: {drawn} settings were drawn already; ask for more, or "
            "leave it out"
        )
    begun = begun.limited(limits.test_best, limits.max_concurrent)
    refuse_if_held(uri)
    check_surroundings(begun.config)
    say(check_data(begun.config))
    return search_and_show(begun, read_state(uri), limits)


def sweep_and_options(argv: list[str]) -> tuple[str, list[str]]:
    """The folder of the sweep, and the options that replace its own.

    Raises:
        ValueError: no sweep is named.
    """
    if not argv or not argv[0] or argv[0].startswith("-"):
        raise ValueError("expected `apdist sweep --resume SWEEP`, SWEEP a folder under runs/")
    return argv[0], argv[1:]


def search_and_show(begun: Begun, state: SweepState, limits: Limits) -> int:
    """Search into the folder of a sweep, and show what was found."""
    until = time.monotonic() + limits.max_hours * 3600 if limits.max_hours else math.inf
    run = begun.run
    again = f"apdist sweep --resume {shlex.quote(run.uri)}"
    with held(run.uri, say) as run.lease:
        begun.save()  # of a resume that is to try more
        driver = Driver(begun.plan, begun.dimensions(), begun.config, state, refuse_unfit)
        with phase("opening MLflow"):
            parent = open_parent(begun)
        total = begun.plan.settings * begun.plan.repeats
        watched = watched_split(begun)
        objectives = list(map(str, begun.plan.objectives))
        say(f"sweep {run.uri}")
        screen = SweepScreen(total, steps=begun.config.training.steps, objectives=objectives)
        board = Board(run, parent, driver, watched, screen)
        status = "FAILED"
        try:
            if not driver.is_done or finalists(board, limits.test_best):
                run_on_cluster(begun, board, limits, until, again)
            board.settle()
            show(begun, driver, watched)
            parent.log_file(partial(send_page, begun))
            status = "FINISHED"
        except Interrupted:
            status = "KILLED"
            say(f"stopped; go on with: {again}")
            return 130
        finally:
            with phase("sending the rest to MLflow"):
                board.close(status)
    return 0


def run_on_cluster(begun: Begun, board: Board, limits: Limits, until: float, again: str) -> None:
    """Join or start Ray, run the trials, measure the best ones."""
    config, log = begun.config, storage.join(begun.run.uri, RAY_LOG_NAME)
    board.screen.phase(arrival(config.ray))
    with (
        counted_signals() as signals,
        told_as_stop(signals),
        shown(board.screen),
        ray_cluster(config.ray, log, SMALLER),
        credentials_kept(),
        lost_cluster_explained(f"`{again}` goes on from there; Ray's own output is in {log}"),
    ):
        # Here: Tune takes a second to import, and what is refused before is refused at once.
        from apdist_verbs.sweeping.tuning import run_trials

        if not board.driver.is_done:
            board.screen.phase("starting the trials")
            run_trials(board, begun.start.name, limits.max_concurrent, until)
        if records := finalists(board, limits.test_best):
            measure_finals(board, records)
    say(f"Ray's own output: {log}")
