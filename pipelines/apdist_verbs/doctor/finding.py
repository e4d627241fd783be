"""What a look at one thing found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from apdist.addresses import without_secrets

State = Literal["good", "to know", "wrong"]
MARKS: dict[State, str] = {"good": "+", "to know": "~", "wrong": "x"}


@dataclass(frozen=True)
class Finding:
    """One line of the table, and what to do about it."""

    name: str
    state: State
    found: str
    remedy: str = ""

    @property
    def mark(self) -> str:
        """Tells the states apart where there are no colours."""
        return MARKS[self.state]


Check = Callable[[], tuple[State, str, str]]
"""State, what was found, what to do; it may raise ValueError or OSError, "what; remedy"."""


def examined(name: str, check: Check) -> Finding:
    """What ``check`` finds; an error of it is something wrong."""
    try:
        state, found, remedy = check()
    except (ValueError, OSError) as error:
        found, _, remedy = str(error).partition("; ")
        state = "wrong"
    return Finding(name, state, without_secrets(found), without_secrets(remedy))
