"""What came of a sweep: settings best first, those on the front of two figures, the command."""

import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from apdist.addresses import without_any, without_secrets
from apdist.config.values import shown
from apdist.data import storage
from apdist.report.sweep_page import sweep_page
from apdist.training.run_folder.lease import holder_of
from apdist.training.sweeps.driving import OVER, Driver
from apdist.training.sweeps.ranking import Standing, by_setting, front, standings
from apdist.training.sweeps.records import SweepRecord, TrialRecord
from apdist.training.sweeps.state import read_state
from apdist_verbs.sweeping.begun import PAGE, Begun, open_begun
from apdist_verbs.sweeping.command import training_command
from apdist_verbs.terminal.console import counted, say, table


def show(begun: Begun, driver: Driver, watched: str) -> None:
    """The settings, best first, and the command that trains the best one; writes the page.

    Raises:
        ValueError: no trial came to its end, and none was hindered by time or a person.
    """
    found = standings(driver.records, driver.plan.objectives, begun.config)
    page = write_page(begun, driver.records)
    if not found:
        reason = f"no trial came to its end; {_first_reason(driver)}"
        if not driver.closing:
            raise ValueError(f"{reason}; page: {page}")
        say(reason)
        say(f"page: {page}")
        say(f"go on with: apdist sweep --resume {shlex.quote(begun.run.uri)}")
        return
    if driver.is_exhausted and (drawn := len(by_setting(driver.records))) < begun.plan.settings:
        say(f"the space has no more than {drawn} different settings of {begun.plan.settings}")
    rank(f"{counted(len(found), 'setting')} of {begun.run.name}, best first", begun, driver, found)
    if len(driver.plan.objectives) > 1:
        best = front(found, driver.plan.objectives)
        figures = " and ".join(map(str, driver.plan.objectives))
        names = ", ".join(standing.trials[0].name for standing in best)
        say(f"no setting is better in {figures} than {names}")
    if watched == begun.config.data.eval_split:
        say(
            f"no classes were held out, so settings were compared by the split {watched!r} itself: "
            "the best figure flatters"
        )
    counts = {state: sum(r.state == state for r in driver.records) for state in OVER}
    say(", ".join(f"{counted(count, 'trial')} {state}" for state, count in counts.items() if count))
    say(f"page: {page}")
    say("train the best one:")
    say("  " + command_of(begun, driver.records))


def rank(title: str, begun: Begun, driver: Driver, found: Sequence[Standing]) -> None:
    """A table of settings."""
    names = list(dict.fromkeys(name for s in found for name in s.trials[0].params))
    has_tests = any(record.test for s in found for record in s.trials)
    rows = [
        [
            standing.trials[0].name,
            *(
                short(standing.trials[0].params[name]) if name in standing.trials[0].params else "-"
                for name in names
            ),
            *(standing.text(place) for place in range(len(driver.plan.objectives))),
            *([_tested(standing)] if has_tests else []),
        ]
        for standing in found
    ]
    heads = [str(objective) for objective in driver.plan.objectives]
    tested = [f"mAP {begun.config.data.eval_split}"] if has_tests else []
    table(title, ["trial", *names, *heads, *tested], rows)


def _tested(standing: Standing) -> str:
    found = standing.test()
    return f"{found['map']:.4f}" if found else ""


def command_of(begun: Begun, records: Sequence[TrialRecord]) -> str:
    """Trains the best setting so far again, as it may be shown; empty while there is none."""
    found = standings(records, begun.plan.objectives, begun.config)
    if not found:
        return ""
    return without_secrets(training_command(begun.start, begun.config, found[0].trials[0].params))


def record_of(begun: Begun, records: Sequence[TrialRecord]) -> SweepRecord:
    """What the page and the live table show."""
    plan = begun.plan
    found = standings(records, plan.objectives, begun.config)
    return SweepRecord(
        name=begun.run.name,
        preset=begun.start.name,
        objectives=list(map(str, plan.objectives)),
        space=[without_any(dimension.described()) for dimension in begun.dimensions()],
        searcher=plan.searcher,
        scheduler=plan.scheduler,
        trials=[replace(record, params=without_any(record.params)) for record in records],
        best=found[0].trials[0].number if found else None,
        command=command_of(begun, records),
    )


def read_sweep(uri: str) -> SweepRecord:
    """What is known of the sweep in a folder, also while it runs: nothing is changed there.

    Raises:
        ValueError: there is none, or its files are damaged.
    """
    begun, records = open_begun(uri, 0), read_state(uri).records
    if holder_of(begun.run.uri) is None:  # killed: nobody was left to say that they stand still
        records = [replace(r, state="waiting") if r.state == "running" else r for r in records]
    return record_of(begun, records)


def write_page(begun: Begun, records: Sequence[TrialRecord]) -> str:
    """Write sweep.html into the sweep's folder; its URI."""
    place = storage.join(begun.run.uri, PAGE)
    storage.write_bytes(place, sweep_page(record_of(begun, records)).encode())
    return place


def short(value: Any) -> str:
    """An option's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else shown(value)


def _first_reason(driver: Driver) -> str:
    reasons = [f"{r.name} {r.state}: {r.reason}" for r in driver.records if r.reason]
    return reasons[0] if reasons else "there was no time for one"
