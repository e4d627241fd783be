"""Parameters of a sweep as axes from 0 to 1: linear, logarithmic, or the values that were tried."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from apdist.config.values import shown
from apdist.report.charts import format_tick, nice_ticks
from apdist.training.sweeps.records import SweepRecord

Kind: TypeAlias = Literal["linear", "log", "ordered", "categories"]
"""``ordered``: few numbers, in equal distances."""
LONGEST = 24
"""Characters of a category's name on an axis."""
MOST_WITH_UNIT = 1e12
"""Below which a tick is written with a unit."""
LONGEST_VALUE = 100
"""Characters of a value elsewhere; the command of the best has it whole."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A parameter, or a figure, from 0 to 1."""

    name: str
    kind: Kind
    low: float = 0.0
    high: float = 1.0
    cells: tuple[Any, ...] = ()
    """The values of an axis that is ordered or of categories."""
    is_conditional: bool = False
    """Some trials lack it."""

    @property
    def section(self) -> str:
        """The first part of its dotted name, with the dot."""
        return self.name.rpartition(".")[0] + "." if "." in self.name else ""

    @property
    def short(self) -> str:
        """The last part of its dotted name."""
        return self.name.rpartition(".")[2]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """Of the cells, by what is in them."""
        return {_key(cell): number for number, cell in enumerate(self.cells)}

    def place(self, value: Any) -> float | None:
        """Where ``value`` lies on it, in [0, 1]; None where it does not: a trial may lack it."""
        if self.cells:
            cell = self._numbers.get(_key(value))
            return None if cell is None else (cell + 0.5) / len(self.cells)
        if not _is_number(value) or (self.kind == "log" and value <= 0):
            return None
        low, high, at = self.low, self.high, float(value)
        if self.kind == "log":
            low, high, at = math.log(low), math.log(high), math.log(at)
        return min(1.0, max(0.0, (at - low) / (high - low)))

    def ticks(self) -> list[tuple[Any, str]]:
        """Value and text of what is written along it."""
        if self.cells:
            marks: Sequence[Any] = self.cells[:: math.ceil(len(self.cells) / 12)]
        elif self.kind == "log":
            marks = _log_marks(self.low, self.high)
        else:
            marks = nice_ticks(self.low, self.high, outside=False, count=4)
        return [(mark, tick_words(mark)) for mark in marks]


def axes_of(record: SweepRecord) -> list[Axis]:
    """The axes of the parameters, in the order of the space; what it does not name comes last."""
    space = {str(entry.get("name", "")): entry for entry in record.space}
    names = dict.fromkeys([*space, *(name for t in record.trials for name in t.params)])
    axes = []
    for name in names:
        values = [trial.params[name] for trial in record.trials if name in trial.params]
        is_conditional = len(values) < len(record.trials)
        if values or name in space:
            axes.append(_axis(name, space.get(name, {}), values, is_conditional))
    return axes


def _axis(name: str, entry: dict[str, Any], values: list[Any], is_conditional: bool) -> Axis:
    given = entry.get("values")
    there = [*(given if isinstance(given, list | tuple) else ()), *values]
    cells = list({_key(value): value for value in there}.values())
    are_numbers = all(_is_number(value) for value in there)
    if given or not are_numbers or (not values and not _has_bounds(entry)):
        if are_numbers:
            cells.sort()
        kind: Kind = "ordered" if are_numbers else "categories"
        return Axis(name=name, kind=kind, cells=tuple(cells), is_conditional=is_conditional)
    bounds = [entry[end] for end in ("low", "high") if _is_number(entry.get(end))]
    low, high = min([*bounds, *values]), max([*bounds, *values])
    is_log = low > 0 and (bool(entry.get("log")) or "log" in str(entry.get("kind", "")))
    if not high > low:
        low, high = (low / 2, low * 2) if is_log else (low - 0.5, low + 0.5)
    return Axis(
        name=name,
        kind="log" if is_log else "linear",
        low=float(low),
        high=float(high),
        is_conditional=is_conditional,
    )


def figure_axis(name: str, values: Sequence[float]) -> Axis:
    """The axis of a figure, from the least to the most of ``values``, which are one or more."""
    low, high = min(values), max(values)
    if not high > low:
        low, high = low - 0.05, high + 0.05
    return Axis(name=name, kind="linear", low=low, high=high)


def words(value: Any) -> str:
    """A value as a person reads it, in few characters where it is a number."""
    return f"{value:.4g}" if isinstance(value, float) else cut(shown(value), LONGEST_VALUE)


def cut(text: str, most: int) -> str:
    """``text`` in ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def tick_words(value: Any) -> str:
    """A value on an axis, where there is little room."""
    if _is_number(value):
        short = float(f"{value:.3g}")
        return format_tick(short) if abs(short) < MOST_WITH_UNIT else f"{short:g}"
    return cut(words(value), LONGEST)


def _log_marks(low: float, high: float) -> list[float]:
    """Powers of ten; where these are fewer than three, 2 and 5 times them as well."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 4, 5, 6, 7, 8, 9)):
        marks = [f * 10.0**power for power in powers for f in factors]
        within = [mark for mark in marks if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]
        if len(within) >= 3:
            return within[:: math.ceil(len(within) / 7)]
    return [low, high]


def _has_bounds(entry: dict[str, Any]) -> bool:
    return _is_number(entry.get("low")) and _is_number(entry.get("high"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _key(value: Any) -> str:
    """By which values are the same: 1 and 1.0 are, 1 and "1" and true are not."""
    if _is_number(value):
        return f"number {float(value)!r}"
    return json.dumps(value, sort_keys=True, default=str)
