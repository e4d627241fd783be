"""What an evaluation found: a table on the screen, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from apdist.data import storage
from apdist.figures import JUDGED, Figure, Seen, measure
from apdist_verbs.terminal.console import counted, say, table

if TYPE_CHECKING:
    from apdist.retrieval.protocols.scores import JudgedScores

Source = TypeVar("Source")
TIES = "equal scores count against the query"
"""One rule everywhere; see docs/protocols.md."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A figure that was measured."""

    part: str = ""
    """Which positives count; empty where there is one kind."""
    key: str
    label: str
    value: float
    text: str
    """The value as a person reads it."""
    before: str = ""
    """Likewise, before training; empty where it is not known."""
    convention: str
    """What is counted, in words."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that an evaluation found."""

    protocol: str
    title: str
    """Above the table."""
    lines: list[Line]
    num_queries: int
    num_queries_without_positive: Mapping[str, int]
    """Number of queries without a positive, by part of the ground truth."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the JSON says."""
    notes: Sequence[str] = ()
    """Below the table."""


def lines_of(
    figures: tuple[Figure[Source], ...],
    scores: Source,
    before: Source | None = None,
    part: str = "",
) -> list[Line]:
    """The figures that the console shows."""
    then = {} if before is None else measure(figures, before, Seen.CONSOLE)
    return [
        Line(
            part=part,
            key=figure.key,
            label=figure.label,
            value=value,
            text=figure.number(value),
            before=figure.number(then[figure]) if figure in then else "",
            convention=figure.convention,
        )
        for figure, value in measure(figures, scores, Seen.CONSOLE).items()
    ]


def judged_lines(parts: Sequence[JudgedScores]) -> list[Line]:
    """The figures of each part of a protocol, in the order of the protocol."""
    found = []
    for scores in parts:
        lines = {
            line.key: line
            for line in lines_of(JUDGED, scores, part="" if scores.part == "all" else scores.part)
        }
        found += [lines[key] for key in scores.figures]
    return found


def show(measured: Measured) -> None:
    """Print every figure with its convention, which is said once."""
    has_parts = any(line.part for line in measured.lines)
    has_before = any(line.before for line in measured.lines)
    columns = [""] * has_parts + ["", *["before training"] * has_before]
    columns += ["after" if has_before else "score", "what it counts"]
    rows, said = [], set()
    for line in measured.lines:
        convention = "" if line.convention in said else line.convention
        said.add(line.convention)
        own = [line.part] * has_parts, [line.before] * has_before
        rows.append([*own[0], line.label, *own[1], line.text, convention])
    table(measured.title, columns, rows)
    for part, number in measured.num_queries_without_positive.items():
        if number:
            name = f" {part}" if part and part != "all" else ""
            say(f"{counted(number, 'query', 'queries')} without a{name} positive: left out")
    for note in (*measured.notes, f"means over queries; {TIES}"):
        say(note)


def write(measured: Measured, uri: str) -> None:
    """Write all of it as JSON."""
    content = {
        "protocol": measured.protocol,
        **measured.facts,
        "num_queries": measured.num_queries,
        "num_queries_without_positive": dict(measured.num_queries_without_positive),
        "ties": TIES,
        "figures": [
            {
                "part": line.part,
                "key": line.key,
                "label": line.label,
                "value": line.value,
                "convention": line.convention,
            }
            for line in measured.lines
        ],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    storage.write_bytes(uri, text.encode())
