"""One option that varies in a sweep: its distribution, and with which other values it is drawn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

DEVIATIONS = 3.0
"""Of a normal distribution more is not drawn, so that its ends can be checked."""


@dataclass(frozen=True)
class Dimension:
    """One option that varies."""

    name: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()
    log: bool = False
    """Whether a whole number is drawn by its logarithm."""
    mean: float = 0.0
    sd: float = 0.0
    when: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of other dimensions with which this one is drawn."""

    def corners(self) -> tuple[Any, ...]:
        """Values that the config must accept: every choice, or both ends."""
        if self.values:
            return self.values
        if self.kind == "normal":
            reach = DEVIATIONS * self.sd
            return (self.mean - reach, self.mean + reach)
        return (self.low, self.high)

    def given(self) -> tuple[Any, ...]:
        """What its distribution is described by."""
        return (self.mean, self.sd) if self.kind == "normal" else self.corners()

    def at(self, share: float) -> Any:
        """The value below which the ``share`` in [0, 1) of all draws lies."""
        if self.values:
            return self.values[int(share * len(self.values))]
        if self.kind == "uniform":
            return self.low + share * (self.high - self.low)
        if self.kind == "normal":
            standard = NormalDist()
            most = standard.cdf(DEVIATIONS)
            return self.mean + self.sd * standard.inv_cdf(1 - most + share * (2 * most - 1))
        if self.kind == "int":
            if not self.log:
                return int(self.low + math.floor(share * (self.high - self.low + 1)))
            found = math.floor(_by_log(self.low, self.high + 1, share))
            return int(min(max(found, self.low), self.high))
        return _by_log(self.low, self.high, share)

    def is_drawn(self, params: Mapping[str, Any]) -> bool:
        """Whether a setting that has ``params`` so far has this one, too."""
        return all(
            name in params and params[name] in allowed for name, allowed in self.when.items()
        )

    def has(self, value: Any) -> bool:
        """Whether it may draw ``value``."""
        if self.values:
            return value in self.values
        low, high = self.corners()
        return isinstance(value, int | float) and low <= value <= high

    def described(self) -> dict[str, Any]:
        """What a page shows of it."""
        found: dict[str, Any] = {"name": self.name, "kind": self.kind, "log": self.is_log}
        if self.values:
            found["values"] = list(self.values)
        else:
            found["low"], found["high"] = self.corners()
        return found | ({"when": {n: list(v) for n, v in self.when.items()}} if self.when else {})

    @property
    def is_log(self) -> bool:
        """Whether it is drawn, and drawn on a page, by its logarithm."""
        return self.log or self.kind == "loguniform"


def _by_log(low: float, high: float, share: float) -> float:
    found = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
    return min(max(found, low), high)  # rounding
