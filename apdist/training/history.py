"""The history of a run: which events are kept, and their lines in metrics.jsonl."""

import json
import re
from collections.abc import Iterable

from apdist.training.events import (
    Ended,
    Evaluated,
    Similarities,
    StepDone,
    from_json,
    to_json,
)

Kept = StepDone | Evaluated | Similarities | Ended
"""Events of a step; everything else is told once and forgotten."""


def to_lines(events: Iterable[Kept]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(to_json(event)) + "\n" for event in events)


def from_lines(text: str) -> list[Kept]:
    """The events in ``text``; a line that a crash cut off is none.

    Raises:
        ValueError: a line holds something else, perhaps of a newer version.
    """
    lines = (line for line in text.splitlines() if re.fullmatch(r"\{.*\}", line))
    return [_kept(line) for line in lines]


def _kept(line: str) -> Kept:
    event = from_json(json.loads(line))
    if not isinstance(event, Kept):
        raise ValueError(f"the history has no event {event.kind!r}")
    return event
