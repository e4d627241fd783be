"""The history of a run: which events are kept, in which order, and their lines in metrics.jsonl."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile

from apdist.addresses import without_any
from apdist.config.json_text import read_json
from apdist.training.events import (
    Ended,
    Evaluated,
    Noticed,
    Restarted,
    SetMeasured,
    Similarities,
    StepDone,
    from_json,
    to_json,
)

HistoryEvent = StepDone | Evaluated | SetMeasured | Similarities | Noticed | Restarted | Ended
"""The events that belong to a step and are kept in the history; others are shown once only."""


def follows(history: Sequence[HistoryEvent], event: HistoryEvent) -> bool:
    """Whether ``event`` comes next: each step once and in order, of the others one a step.

    What does not was sent by workers that have been replaced since.
    """
    if history and event.step < history[-1].step:
        return False
    if isinstance(event, StepDone):
        last = next((e.step for e in reversed(history) if isinstance(e, StepDone)), None)
        return last is None or event.step == last + 1
    same_step = takewhile(lambda e: e.step == event.step, reversed(history))
    return not any(_same(event, other) for other in same_step)


def _same(event: HistoryEvent, other: HistoryEvent) -> bool:
    if isinstance(event, Restarted) and isinstance(other, Restarted):
        return event.happened_ms == other.happened_ms
    if isinstance(event, Noticed) and isinstance(other, Noticed):
        return event.topic == other.topic
    if isinstance(event, Evaluated) and isinstance(other, Evaluated):
        return event.split == other.split
    if isinstance(event, SetMeasured) and isinstance(other, SetMeasured):
        return event.is_of(other)
    return type(event) is type(other)


def to_lines(events: Iterable[HistoryEvent]) -> str:
    """One JSON object a line, without secrets: a cause may be another program's words."""
    return "".join(json.dumps(without_any(to_json(event))) + "\n" for event in events)


def from_lines(text: str) -> list[HistoryEvent]:
    """The events in ``text``; a line that a crash cut off is none.

    Raises:
        ValueError: a line holds something else, perhaps of a newer version.
    """
    lines = (line for line in text.splitlines() if re.fullmatch(r"\{.*\}", line))
    return [_kept(line) for line in lines]


def _kept(line: str) -> HistoryEvent:
    event = from_json(read_json(line))
    if not isinstance(event, HistoryEvent):
        raise ValueError(f"the history has no event {event.kind!r}")
    return event
