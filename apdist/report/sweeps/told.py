"""What the page of a sweep says in words: figures of the best, what to look at, facts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apdist.report.sweeps.axes import Axis, words
from apdist.report.sweeps.settings import Setting, label_of, noise_of, objectives_of, tested
from apdist.training.sweeps.records import SweepRecord, TrialRecord

EDGE = 0.02
"""So near to the end of a range a best value may lie beyond it."""


@dataclass(frozen=True)
class Best:
    """The best setting, as its card shows it."""

    setting: Setting
    trial: TrialRecord
    figure: str
    spread: str
    """How far its repeats lie apart, or that nobody knows."""
    test: tuple[tuple[str, str], ...]
    """Figures on the test split, in words."""
    params: tuple[tuple[str, str], ...]


def best_of(record: SweepRecord, settings: Sequence[Setting]) -> Best | None:
    """The best setting; None where nothing was measured."""
    setting = next(
        (s for s in settings if s.values and record.best in [trial.number for trial in s.trials]),
        None,
    )
    if setting is None:
        return None
    trial = setting.trials[0]
    tests = {
        key: [t.test[key] for t in setting.trials if key in t.test]
        for key in tested(setting.trials)
    }
    return Best(
        setting,
        trial,
        f"{setting.mean:.4f}",
        _spread_of(setting),
        tuple((label_of(key), _mean_and_range(values)) for key, values in tests.items() if values),
        tuple((name, words(value)) for name, value in setting.params.items()),
    )


def _spread_of(setting: Setting) -> str:
    count = len(setting.values)
    if setting.spread is None:
        return "one training: how far another seed would lie from it is not known (--repeats 3)"
    low, high = min(setting.values), max(setting.values)
    return f"± {setting.spread:.4f} over {count} seeds, {low:.4f} to {high:.4f}"


def _mean_and_range(values: Sequence[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.4f}"
    return f"{mean:.4f} ({min(values):.4f} to {max(values):.4f})"


def summary_of(record: SweepRecord) -> str:
    """The line below the heading."""
    trials, settings = len(record.trials), len({trial.setting for trial in record.trials})
    several = f" of {settings} setting{'' if settings == 1 else 's'}" if settings < trials else ""
    objectives = " and ".join(objective.label for objective in objectives_of(record))
    counted = f"{trials} trial{'' if trials == 1 else 's'}{several}"
    return f"{counted}, {record.searcher} search with {record.scheduler}, by {objectives}"


def facts_of(record: SweepRecord) -> dict[str, str]:
    """What else is worth knowing."""
    states = Counter(trial.state for trial in record.trials)
    seconds = sum(trial.seconds for trial in record.trials)
    steps = sum(trial.curve[-1][0] for trial in record.trials if trial.curve)
    return {
        "preset": record.preset,
        "states": ", ".join(f"{count} {state}" for state, count in states.most_common()) or "none",
        "time of all trials": _duration(seconds),
        "steps of all trials": f"{steps:,}",
    }


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def notices_of(
    record: SweepRecord, settings: Sequence[Setting], best: Best | None, axes: Sequence[Axis]
) -> list[str]:
    """What to look at before one believes the figures."""
    return [*_missing(record, best), *_edges(best, axes), *_close(record, settings, best)]


def _missing(record: SweepRecord, best: Best | None) -> Iterator[str]:
    going = [trial for trial in record.trials if trial.state in ("running", "waiting")]
    if going:
        yield f"The sweep is not over: {len(going)} of {len(record.trials)} trials wait or run."
    if best is None:
        yield "No trial has a figure yet that could be the best."
    elif best.trial.state != "finished":
        yield f"The best trial has not finished: its figure is that of step {best.setting.reached}."
    failed = sum(trial.state == "failed" for trial in record.trials)
    if failed:
        yield f"{failed} of {len(record.trials)} trials failed; their reasons stand below."


def _edges(best: Best | None, axes: Sequence[Axis]) -> Iterator[str]:
    for axis in axes if best else ():
        value = best.setting.params.get(axis.name) if best else None
        place = axis.place(value)
        if axis.cells or place is None or EDGE < place < 1 - EDGE:
            continue
        end = "lower" if place <= EDGE else "upper"
        yield (
            f"The best {axis.name}, {words(value)}, lies at the {end} end of what was tried: "
            "a wider range may hold a better one."
        )


def _close(record: SweepRecord, settings: Sequence[Setting], best: Best | None) -> Iterator[str]:
    """Settings that only chance may put behind the best one."""
    noise, objective = noise_of(settings), objectives_of(record)[0]
    if best is None or noise is None:
        return
    near = 0
    for other in settings:
        if other is best.setting or not other.is_complete or not other.values:
            continue
        parts = 1 / len(best.setting.values) + 1 / len(other.values)
        gap = objective.sign * (best.setting.mean - other.mean)
        near += gap < 2 * noise * math.sqrt(parts)
    if near:
        yield (
            f"{near} other setting{' is' if near == 1 else 's are'} so close to the best one that "
            f"other seeds may turn the order round: a training's {objective.label} varies by "
            f"{noise:.4f} (one standard deviation) with its seed alone."
        )


def distribution_of(entry: dict[str, Any]) -> str:
    """A dimension of the space in words."""
    kind = str(entry.get("kind", ""))
    if values := entry.get("values"):
        return f"{kind} of {', '.join(words(value) for value in values)}"
    by_log = ", by its logarithm" if entry.get("log") and kind != "loguniform" else ""
    return f"{kind} from {words(entry.get('low', ''))} to {words(entry.get('high', ''))}{by_log}"


def condition_of(entry: dict[str, Any]) -> str:
    """When a dimension is there; empty: always."""
    when = entry.get("when")
    if isinstance(when, dict):
        return " and ".join(
            f"{name} is {' or '.join(map(words, v)) if isinstance(v, list | tuple) else words(v)}"
            for name, v in when.items()
        )
    return str(when) if when else ""
