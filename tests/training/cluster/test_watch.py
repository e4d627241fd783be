"""The watch loop: who gets what, in which order, and what ends it."""

import threading
from typing import Any

import pytest

from apdist.training.cluster.background import Background
from apdist.training.cluster.watch import watch
from apdist.training.events import Event, Warned
from apdist.training.mailbox import Mailbox


def watched(
    texts: str, listeners: list[Any], signals: list[int], on_signal: Any = lambda _: None
) -> None:
    """Watch a thread that posts ``texts`` and ends."""
    mailbox, work = Mailbox[Event](), Background("test")
    with work.ended():
        work.start(lambda: [mailbox.post(Warned(text=text)) for text in texts])
        watch(work, lambda _: mailbox.take(), listeners, signals, on_signal)


def test_each_listener_gets_each_event_before_the_next_one_comes() -> None:
    heard = []
    listeners = [lambda event, name=name: heard.append((name, event.text)) for name in "xy"]
    watched("abc", listeners, [])
    assert heard == [(name, text) for text in "abc" for name in "xy"]


def test_what_is_posted_last_is_taken_after_the_end_and_surely() -> None:
    mailbox, work, asked = Mailbox[Event](), Background("test"), []
    begun = threading.Event()

    def take(last: bool) -> list[Event]:
        asked.append(last)
        begun.set()
        return mailbox.take()

    def act() -> None:
        begun.wait(10)
        mailbox.post(Warned(text="last words"))

    heard: list[Any] = []
    work.start(act)
    watch(work, take, [heard.append], [], lambda _: None)
    assert [event.text for event in heard] == ["last words"]
    assert asked[-1]
    assert not any(asked[:-1])


def test_signals_are_counted_and_each_is_told_once() -> None:
    told: list[int] = []
    signals = [2]

    def on_signal(number: int) -> None:
        told.append(number)
        if number == 1:
            signals.append(15)  # the next one comes while the first is handled

    watched("a", [], signals, on_signal)
    assert told == [1, 2]


def test_a_listener_that_fails_ends_the_watch() -> None:
    def fail(event: Event) -> None:
        raise OSError(f"disk full at {event.kind}")

    with pytest.raises(OSError, match="disk full at warning"):
        watched("a", [fail], [])
