"""The trials of a sweep as settings with their figures: mean and spread over repeats, Pareto front.

A trial counts with the figures of the weights it saved, or with those that were measured last: the
best of several measurements flatters whoever was measured most often.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from apdist.figures import EVALUATION, STEP, Seen, figures_of_sets
from apdist.training.sweeps.records import SweepRecord, TrialRecord


@dataclass(frozen=True)
class Objective:
    """A figure that trials are compared by."""

    key: str
    label: str
    sign: int
    """1: more is better; -1: less is."""

    def of(self, trial: TrialRecord) -> float | None:
        """Its value in ``trial``; None where it was never measured. An option's is its own."""
        value = trial.figures.get(self.key, trial.params.get(self.key))
        is_number = isinstance(value, int | float) and math.isfinite(value)
        return float(value) if is_number and value is not None else None


@dataclass(frozen=True)
class Setting:
    """Values of the parameters, with the trials that had them."""

    number: int
    params: dict[str, Any]
    trials: tuple[TrialRecord, ...]
    """Its repeats, by their number."""
    values: tuple[float, ...]
    """Of the first objective: of the repeats that finished, else of those that came furthest."""

    @property
    def mean(self) -> float:
        """Over the repeats; NaN without one."""
        return fmean(self.values) if self.values else math.nan

    @property
    def spread(self) -> float | None:
        """Standard deviation over the repeats; None of a single one."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def is_complete(self) -> bool:
        """Whether all repeats finished: the mean of what is left of others flatters them."""
        return all(trial.state == "finished" for trial in self.trials)

    @property
    def reached(self) -> int:
        """The step of its last evaluation."""
        return max(last_step(trial) for trial in self.trials)


def objectives_of(record: SweepRecord) -> list[Objective]:
    """What the sweep compares by, the first one first."""
    return [objective(text) for text in record.objectives or ["map"]]


def objective(text: str) -> Objective:
    """That of a key, which ``-`` may stand before."""
    key = text.removeprefix("-")
    return Objective(key, label_of(key), -1 if key != text else 1)


def label_of(key: str) -> str:
    """What a person reads for the key of a figure; the key itself where nobody has named it."""
    labels = (
        figures_of_sets() | {f.key: f.label for f in EVALUATION} | {f.key: f.label for f in STEP}
    )
    return labels.get(key, key)


def tested(trials: Iterable[TrialRecord]) -> list[str]:
    """Keys of what ``trials`` were measured at on the test split, without how many queries."""
    counts = {figure.key for figure in EVALUATION if Seen.CONSOLE not in figure.seen}
    return [key for key in dict.fromkeys(k for t in trials for k in t.test) if key not in counts]


def value_at(trial: TrialRecord, key: str, step: int) -> float | None:
    """The last finite value of a figure up to ``step``; None where there is none."""
    found = [
        figures[key]
        for at, figures in trial.curve
        if at <= step and key in figures and math.isfinite(figures[key])
    ]
    return found[-1] if found else None


def last_step(trial: TrialRecord) -> int:
    """The step of its last evaluation; 0 without one."""
    return trial.curve[-1][0] if trial.curve else 0


def settings_of(record: SweepRecord) -> list[Setting]:
    """The settings: those that are complete, best first, then the others, unmeasured ones last."""
    first = objectives_of(record)[0]
    groups: dict[int, list[TrialRecord]] = {}
    for trial in sorted(record.trials, key=lambda trial: trial.number):
        groups.setdefault(trial.setting, []).append(trial)
    settings = [_setting(number, trials, first) for number, trials in groups.items()]

    def place(setting: Setting) -> tuple[bool, bool, float]:
        rank = -first.sign * setting.mean if setting.values else 0.0
        return not setting.values, not setting.is_complete, rank

    return sorted(settings, key=place)


def _setting(number: int, trials: Sequence[TrialRecord], first: Objective) -> Setting:
    reached = max(last_step(trial) for trial in trials)
    furthest = [trial for trial in trials if trial.curve and last_step(trial) == reached]
    finished = [trial for trial in trials if trial.state == "finished"]
    values = [first.of(trial) for trial in finished or furthest]
    known = tuple(value for value in values if value is not None)
    return Setting(number, trials[0].params, tuple(trials), known)


def noise_of(settings: Sequence[Setting]) -> float | None:
    """Standard deviation of one training among repeats of its setting, pooled over settings."""
    squares = [(len(s.values) - 1, s.spread**2) for s in settings if s.spread is not None]
    freedom = sum(count for count, _ in squares)
    return math.sqrt(sum(n * square for n, square in squares) / freedom) if freedom else None


@dataclass(frozen=True)
class Compared:
    """A setting by two figures, each the mean over its repeats."""

    setting: Setting
    values: tuple[float, float]
    on_front: bool
    """No other setting is as good in both and better in one."""


def pareto(settings: Sequence[Setting], objectives: Sequence[Objective]) -> list[Compared]:
    """Settings that finished in both figures, the best of the first figure first."""
    found = []
    for setting in settings:
        done = [trial for trial in setting.trials if trial.state == "finished"]
        means = [
            fmean(known)
            for figure in objectives[:2]
            if (known := [v for trial in done if (v := figure.of(trial)) is not None])
        ]
        if len(means) == 2:
            found.append((setting, (means[0], means[1])))
    signs = [figure.sign for figure in objectives[:2]]
    compared = [
        Compared(setting, values, not any(_is_beaten(values, others, signs) for _, others in found))
        for setting, values in found
    ]
    return sorted(compared, key=lambda each: -signs[0] * each.values[0])


def _is_beaten(values: Sequence[float], others: Sequence[float], signs: Sequence[int]) -> bool:
    gains = [
        sign * (other - value) for sign, other, value in zip(signs, others, values, strict=True)
    ]
    return min(gains) >= 0 and max(gains) > 0
