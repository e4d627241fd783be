"""What a training changed on sets beside its own images: first against last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apdist.figures import figures_of_sets, main_keys
from apdist.report.page import fallen


@dataclass(frozen=True, kw_only=True)
class SetChange:
    """A figure of a set, as it was measured first and last."""

    name: str
    """Of the set, with its protocol."""
    figure: str
    first: float
    last: float | None
    """None where it was measured once."""
    when: str
    """Steps of the weights that were measured."""
    is_main: bool

    @property
    def change(self) -> float | None:
        """Below 0: it fell."""
        return None if self.last is None else self.last - self.first

    @property
    def has_fallen(self) -> bool:
        """Whether the training made it worse."""
        return self.last is not None and fallen(self.first, self.last, 4)


def set_changes(rows: Sequence[Mapping[str, Any]]) -> list[SetChange]:
    """The figures of each set, in the order in which they were measured first.

    Args:
        rows: of each measurement, in their order: name, protocol, data, step, of_step, and its
            figures by key. Those of other data than the last one of their name do not count.
    """
    labels, found = figures_of_sets(), []
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [row for row in rows if row["name"] == name]
        first, *later = [row for row in own if row["data"] == own[-1]["data"]]
        keys = [key for key in first if key in labels]
        steps = dict.fromkeys(map(_step, [first, *later[-1:]]))
        for key in keys:
            found.append(
                SetChange(
                    name=f"{name} ({first['protocol']}, {first['num_queries']} queries)",
                    figure=labels[key],
                    first=first[key],
                    last=later[-1][key] if later else None,
                    when=f"step {' to '.join(map(str, steps))}",
                    is_main=key in main_keys(keys),
                )
            )
    return found


def _step(row: Mapping[str, Any]) -> int:
    """Steps after which the network had the measured weights."""
    return int(row["step"] if row["of_step"] < 0 else row["of_step"])
