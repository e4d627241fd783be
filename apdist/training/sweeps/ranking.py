"""Which settings were best: by the mean over their repeats; of two figures those on the front."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apdist.config import Config, flatten, suggestion
from apdist.figures import EVALUATION, logged_keys
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.space import config_of

THROUGHPUT = "images_per_s"
"""A figure of trials that no evaluation has."""

NUM_QUERIES = "num_queries"
"""An evaluation tells it, and it is the same for every setting."""


@dataclass(frozen=True)
class Objective:
    """A figure by which settings are compared."""

    figure: str
    sign: float = 1.0
    """-1 where it is to be small."""

    def __str__(self) -> str:
        """As a person types it."""
        return f"{'-' if self.sign < 0 else ''}{self.figure}"

    def value(self, record: TrialRecord, config: Config) -> float | None:
        """Of a trial of a sweep with ``config``; None where it has not been measured."""
        if "." in self.figure:
            return float(flatten(config_of(config, record.params))[self.figure])
        return record.figures.get(self.figure)


def read_objective(text: str, config: Config) -> Objective:
    """A figure, with ``-`` before one that is to be small.

    Raises:
        ValueError: there is no such figure, and no option of this name that is a number.
    """
    figure, sign = text.removeprefix("-"), -1.0 if text.startswith("-") else 1.0
    options: dict[str, Any] = flatten(config)
    numbers = {name for name, v in options.items() if type(v) in (int, float)}
    known = {*logged_keys(EVALUATION) - {NUM_QUERIES}, THROUGHPUT}
    if figure not in known | numbers:
        closest = suggestion(figure, sorted(known | numbers))
        raise ValueError(
            f"--objective {text!r} is no figure of a trial{closest}; "
            f"expected one of {', '.join(sorted(known))}, or an option that is a number, as "
            "-model.dim; a minus stands before what is to be small"
        )
    return Objective(figure, sign)


@dataclass(frozen=True)
class Standing:
    """What came of a setting."""

    trials: tuple[TrialRecord, ...]
    means: tuple[float, ...]
    """Of each objective, over its finished repeats."""
    spreads: tuple[float, ...]
    """Standard deviations; 0 of a single one."""
    is_complete: bool
    """Whether every repeat is finished."""

    def test(self, before: str = "") -> dict[str, float]:
        """Means on the evaluation split, over the repeats that were measured there.

        Args:
            before: begins each name.
        """
        found = [record.test for record in self.trials if record.test]
        return {
            f"{before}{key}": statistics.fmean(figures[key] for figures in found)
            for key in (found[0] if found else {})
        }

    def text(self, place: int = 0) -> str:
        """A mean with its spread."""
        mean, spread = f"{self.means[place]:.4f}", self.spreads[place]
        return f"{mean} ± {spread:.4f}" if len(self.trials) > 1 else mean


def by_setting(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """The repeats of each setting."""
    found: dict[int, list[TrialRecord]] = {}
    for record in records:
        found.setdefault(record.setting, []).append(record)
    return list(found.values())


def standings(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], config: Config
) -> list[Standing]:
    """Settings with finished trials, best first by the first objective.

    Those of which a repeat was stopped or failed come after all others: the mean of what is left
    flatters them.
    """
    found = []
    for repeats in by_setting(records):
        done = [record for record in repeats if record.state == "finished"]
        values = [[o.value(record, config) for record in done] for o in objectives]
        if done and all(v is not None for own in values for v in own):
            known = [[float(v) for v in own if v is not None] for own in values]
            found.append(
                Standing(
                    trials=tuple(done),
                    means=tuple(map(statistics.fmean, known)),
                    spreads=tuple(statistics.stdev(v) if len(v) > 1 else 0.0 for v in known),
                    is_complete=len(done) == len(repeats),
                )
            )

    def key(standing: Standing) -> tuple[bool, float, int]:
        first = objectives[0].sign * standing.means[0]
        return (not standing.is_complete, -first, standing.trials[0].number)

    return sorted(found, key=key)


def front(found: Sequence[Standing], objectives: Sequence[Objective]) -> list[Standing]:
    """Those that no other is at least as good as in every objective, and better in one."""

    def signed(found: Standing) -> list[float]:
        return [o.sign * mean for o, mean in zip(objectives, found.means, strict=True)]

    points = [signed(standing) for standing in found]
    return [
        standing
        for standing, own in zip(found, points, strict=True)
        if not any(
            other != own and all(a >= b for a, b in zip(other, own, strict=True))
            for other in points
        )
    ]
