"""A signal stops a verb, whatever a library makes of the exception."""

import os
import signal
import time
from contextlib import suppress

import pytest

from apdist_verbs.terminal import console
from apdist_verbs.terminal.progress import progress_bar
from apdist_verbs.terminal.stopping import check_asked, stopped_by_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def lose(kind: signal.Signals) -> None:
    """As an optional import does that ends by the signal's exception."""
    with suppress(BaseException):
        os.kill(os.getpid(), kind)
        pytest.fail("the signal raised nothing")


@pytest.mark.parametrize("kind", SIGNALS)
@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_lost_signal_is_raised_again_by_the_progress(
    kind: signal.Signals, is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console.console, "_force_terminal", is_terminal)
    with stopped_by_signals(), progress_bar("working", 3) as update:
        update(1)
        lose(kind)
        with pytest.raises(KeyboardInterrupt):
            update(2)


def test_an_error_that_comes_after_a_lost_signal_is_a_stop() -> None:
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():  # noqa: PT012
        lose(signal.SIGINT)
        raise ValueError("Ray did not start")
    with pytest.raises(ValueError, match="of its own"), stopped_by_signals():
        raise ValueError("of its own")


def test_the_next_verb_of_the_process_starts_anew() -> None:
    with stopped_by_signals():
        lose(signal.SIGINT)
    with stopped_by_signals():
        check_asked()


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(kind) for kind in SIGNALS]
    with stopped_by_signals():
        assert [signal.getsignal(kind) for kind in SIGNALS] != before
    assert [signal.getsignal(kind) for kind in SIGNALS] == before


def test_an_ignored_ctrl_c_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopped_by_signals():
            os.kill(os.getpid(), signal.SIGINT)
            check_asked()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_signal_inside_of_an_imports_own_code_waits_for_its_end() -> None:
    # An exception there could be lost, with a lock held that all other threads wait for.
    code = "os.kill(os.getpid(), signal.SIGINT)\nfor _ in range(1000): pass\npassed.append(1)"
    passed: list[int] = []
    names = {"os": os, "signal": signal, "passed": passed}

    def imported() -> None:
        with stopped_by_signals():
            exec(compile(code, "<frozen importlib._bootstrap>", "exec"), names)
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        imported()
    assert passed == [1]
