"""Signals of a driver: counted, not raised, and back as they were."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from apdist.training.cluster.signals import counted_signals, handlers_kept


@pytest.fixture(autouse=True)
def handlers() -> Iterator[dict[int, object]]:
    """Handlers of the test's own, put back after it."""

    def refuse(*_: object) -> None:
        raise AssertionError("the handler from outside the block was called")

    before = {kind: signal.signal(kind, refuse) for kind in (signal.SIGINT, signal.SIGTERM)}
    yield dict.fromkeys(before, refuse)
    for kind, handler in before.items():
        signal.signal(kind, handler)


def current() -> dict[int, object]:
    return {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}


def test_signals_in_a_block_are_counted_and_raise_nothing(handlers: dict[int, object]) -> None:
    with counted_signals() as signals:
        assert not signals
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals == [signal.SIGINT, signal.SIGTERM]
    assert current() == handlers


def test_a_block_inside_another_counts_with_it() -> None:
    with counted_signals() as outer, counted_signals() as inner:
        os.kill(os.getpid(), signal.SIGINT)
        assert inner is outer
        assert outer == [signal.SIGINT]


def test_outside_the_main_thread_signals_are_left_alone(handlers: dict[int, object]) -> None:
    seen = []

    def look() -> None:
        with counted_signals() as signals, handlers_kept():
            seen.append((list(signals), current()))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(30)
    assert seen == [([], handlers)]


def test_handlers_that_others_put_in_place_are_put_back(handlers: dict[int, object]) -> None:
    with handlers_kept():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert current() == handlers


def test_an_exit_that_a_handler_raises_is_a_stop(handlers: dict[int, object]) -> None:
    with pytest.raises(KeyboardInterrupt), handlers_kept():
        raise SystemExit(0)
    assert current() == handlers


def test_an_exit_while_handlers_are_put_back_is_a_stop_too(
    handlers: dict[int, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    put = signal.signal
    exits = [SystemExit(1)]

    def interrupted(kind: signal.Signals, handler: Any) -> Any:
        if exits:  # Ray's handler is still in place
            raise exits.pop()
        return put(kind, handler)

    with pytest.raises(KeyboardInterrupt), handlers_kept():  # noqa: PT012
        put(signal.SIGTERM, signal.SIG_DFL)
        monkeypatch.setattr(signal, "signal", interrupted)
    assert current() == handlers
