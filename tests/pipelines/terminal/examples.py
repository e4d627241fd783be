"""Dataclasses with options of every kind."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from apdist_verbs.terminal.fields import Argument, positional, shown_default


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example."""

    name: Annotated[str, shown_default("the newest")] = ""
    """A name."""
    k: int = 3
    """A number."""
    room: int | Literal["auto"] = "auto"
    """A number or a word."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("--k must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Section:
    """What belongs
    together."""

    share: float = 0.5
    """A share."""
    is_on: bool = True
    """A switch."""
    kind: Literal["fast", "slow"] = "fast"
    """A choice."""


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Sections, and values without a name."""

    first: Annotated[str, positional("FIRST")]
    """One."""
    more: Annotated[tuple[Path, ...], positional("MORE")] = ()
    """Any number."""
    names: tuple[str, ...] = ()
    """Names."""
    a_section: Section = field(default_factory=Section)
    top: Annotated[Section, Argument(name="")] = Section(share=0.25)
