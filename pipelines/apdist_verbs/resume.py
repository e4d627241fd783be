"""``apdist train --resume RUN``: go on with a run, or begin another one at its checkpoint."""

import dataclasses
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager

from apdist.addresses import is_withheld, without_any
from apdist.config import Config, flatten, is_decisive, override
from apdist.config.values import shown
from apdist.data import storage
from apdist.data.decoders import resolved, with_versions
from apdist.data.loading.decoding import REPLACE
from apdist.training.events import WorkersFailed, now_ms
from apdist.training.run_folder.lease import refuse_if_held
from apdist.training.run_folder.runs import Run, open_run
from apdist_verbs.settling import settle_if_behind
from apdist_verbs.start.checks import (
    check_new_run,
    check_surroundings,
    refuse_incomplete,
    refuse_useless,
)
from apdist_verbs.start.completing import with_absolute_paths, with_own_side
from apdist_verbs.start.data_check import check_data
from apdist_verbs.start.model_check import check_model
from apdist_verbs.start.running import discarded_if_refused, told_next, train_run
from apdist_verbs.start.start import FORK, run_and_options
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.options import parse


def resume(argv: list[str]) -> int:
    """Go on with the run ``argv[0]``; the options that follow replace the run's own."""
    uri, given = run_and_options(argv)
    run = open_run(storage.absolute(uri))
    if "origin" in run.info:
        raise ValueError(
            f"{run.uri} was converted, and there is no training to go on with; begin one with its "
            f"weights: apdist train --config {shlex.quote(uri)} --data.shards SHARDS"
        )
    prog = f"apdist train --resume {shlex.quote(uri)}"
    config = parse(Config, given, prog, default=run.config)
    refuse_incomplete(config)
    config = with_absolute_paths(config)
    run.config = with_secrets_of(config, run.config)
    refuse_useless(given, config.loss)
    if config.data.decoder != run.config.data.decoder:
        config = with_versions(config)
    if FORK in argv:
        new = forked(run, config)
        with discarded_if_refused(new):
            return told_next(new, train_run(new))
    changed = changes(run, config)
    if run.is_complete and (run.steps_done >= config.training.steps or not changed):
        done, steps = run.steps_done, run.config.training.steps
        early = f"ended early, after {done} of" if done < steps else "has done all"
        say(f"{run.uri} {early} its {steps} steps")
        warn_of_tracking(run, config, changed)
        settle_if_behind(run)
        return 0
    resolved(config.data.decoder)  # refused here, before Ray starts
    refuse_if_held(run.uri)
    if changed:
        check_surroundings(config)
        check_data(config)
        check_model(config)
        run.config = config  # kept in its folder once the workers have begun
    with told_of_fork(run):
        return told_next(run, train_run(run, how_it_ended(run, changed)))


@contextmanager
def told_of_fork(run: Run) -> Iterator[None]:
    """Damaged images end a run that goes on with a way out that it has: to replace is decisive."""
    try:
        yield
    except ValueError as error:
        if REPLACE not in str(error) or not can_be_forked(run):
            raise
        again = f"apdist train --resume {shlex.quote(run.uri)} {FORK} --data.on-corrupt replace"
        way = f"begin another run at this one's checkpoint: {again}"
        raise ValueError(str(error).replace(REPLACE, way)) from error


def can_be_forked(run: Run) -> bool:
    """Whether there is a checkpoint to begin at."""
    from apdist.training.run_folder.checkpoint import newest_sound

    try:
        return newest_sound(run.uri, with_state=False) is not None
    except ValueError:
        return False


def warn_of_tracking(run: Run, config: Config, changed: dict[str, str]) -> None:
    """Warn that another store, of a run that is not trained any more, gets nothing by this."""
    names = [name for name in changed if name.startswith("tracking.")]
    if not names:
        return
    told = f"{', '.join(f'{name} {changed[name]}' for name in names)}: not applied, for nothing is"
    told += " trained any more"
    tracking = config.tracking
    if tracking.enabled and {"tracking.enabled", "tracking.uri", "tracking.experiment"} & {*names}:
        words = ["apdist", "track", run.uri, "--tracking.uri", tracking.uri]
        if "tracking.experiment" in names:
            words += ["--tracking.experiment", tracking.experiment]
        told += f"; send it there: {shlex.join(words)}"
    warn(told)


def warn_of_fork(parent: Run, config: Config) -> None:
    """Warn of held-out images that the parent was trained on, and of a start that is past."""
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.data.catalogue.selection import training_images, validation_images

    if config.model.init != parent.config.model.init:
        warn(f"model.init {config.model.init}: a fork goes on with the weights that it begins at")
    held_out = validation_images(
        read_catalogue(config.data.shards), config.data, config.training.seed
    )
    if held_out is None:
        return
    before = training_images(
        read_catalogue(parent.config.data.shards), parent.config.data, parent.config.training.seed
    )
    known = set(before.column("source").to_pylist())
    seen = sum(source in known for source in held_out.column("source").to_pylist())
    if seen:
        warn(
            f"{parent.name} was trained on {seen} of the {len(held_out)} images that weights are "
            "chosen by: their figures flatter; keep its --training.seed and --data.holdout-share"
        )


def changes(run: Run, config: Config) -> dict[str, str]:
    """What ``config`` has otherwise than the run, as new and old value by dotted name.

    Raises:
        ValueError: it decides what is learned; the losses would not be those of one run.
    """
    old, new = flatten(run.config), flatten(config)
    changed = {
        name: f"{shown(new[name])} (was {shown(old[name])})"
        for name in new
        if new[name] != old[name]
    }
    refused = [name for name in changed if is_decisive(name, config) or name.startswith("run.")]
    if "training.steps" in changed and config.training.steps < run.steps_done:
        raise ValueError(
            f"training.steps {config.training.steps}: the run has done {run.steps_done} already; "
            "give more steps than that, or leave it out"
        )
    if refused:
        named = ", ".join(f"{name} {changed[name]}" for name in refused)
        raise ValueError(
            f"a run cannot go on with another {named}; leave that out, or begin another run at "
            f"this one's checkpoint: apdist train --resume {shlex.quote(run.uri)} {FORK} ..."
        )
    return changed


def with_secrets_of(given: Config, config: Config) -> Config:
    """``config`` as it was written down, with the addresses in full that are ``given`` again."""
    new = flatten(given)
    same = {
        name: new[name]
        for name, value in flatten(config).items()
        if is_withheld(value) and without_any(new[name]) == without_any(value)
    }
    return override(config, same)


def how_it_ended(run: Run, changed: dict[str, str]) -> WorkersFailed:
    """A stop by a person, or the end of a driver, as the history tells it."""
    last_ms = run.history[-1].time_ms if run.history else now_ms()
    how = "".join(f", {name} {value}" for name, value in changed.items())
    return WorkersFailed(ranks=[], cause=f"resumed{how}", time_ms=last_ms)


def forked(run: Run, config: Config) -> Run:
    """A new run that begins at the newest checkpoint of ``run`` and notes where it comes from."""
    from apdist.training.run_folder.forking import fork, refuse_unforkable

    config = with_own_side(config)
    if config.run == run.config.run:
        name = f"{run.name}-fork-{time.strftime('%Y%m%d-%H%M%S')}"
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, name=name))
    check_new_run(config)
    refuse_unforkable(run, config)
    say(check_data(config))
    check_model(config)
    warn_of_fork(run, config)
    new, step = fork(run, config)
    say(f"{new.uri} begins at step {step} of {run.uri}")
    return new
