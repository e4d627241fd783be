"""A signal stops a verb, whatever a library makes of the exception."""

import importlib
import os
import signal
import sys
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

import pytest

from apdist_verbs.terminal import console, stopping
from apdist_verbs.terminal.progress import phase, progress_bar
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


def test_a_lost_signal_is_raised_again_where_a_phase_ends() -> None:
    passed = []
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():  # noqa: PT012
        with phase("loading"):
            lose(signal.SIGINT)
            passed.append(1)
        passed.append(2)
    assert passed == [1]


def test_what_is_cleaned_up_after_an_exception_comes_to_its_end() -> None:
    passed = []
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():  # noqa: PT012
        try:
            lose(signal.SIGINT)
            raise ValueError("of its own")
        finally:
            with phase("sending the rest"):
                passed.append(1)
            passed.append(2)
    assert passed == [1, 2]


@pytest.mark.parametrize("kind", SIGNALS)
def test_a_signal_in_a_callback_that_can_raise_nothing_is_sent_again(kind: signal.Signals) -> None:
    """A weak reference's, as sqlalchemy has thousands: Python tells of its exceptions, no more."""
    thing = {1, 2}
    passed = []

    def gone(_: object) -> None:
        os.kill(os.getpid(), kind)
        for _ in range(1000):
            pass
        passed.append("the signal raised nothing")

    with pytest.raises(KeyboardInterrupt), stopped_by_signals():  # noqa: PT012
        kept = weakref.ref(thing, gone)
        thing = set()
        assert kept() is None
        time.sleep(30)
    assert not passed


def test_other_exceptions_that_nobody_can_catch_are_told_as_ever(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def gone(_: object) -> None:
        raise ValueError("of its own")

    hook, sys.unraisablehook = sys.unraisablehook, sys.__unraisablehook__
    try:
        with stopped_by_signals():
            thing = {1}
            kept = weakref.ref(thing, gone)
            thing = set()
            assert kept() is None
        assert sys.unraisablehook is sys.__unraisablehook__
    finally:
        sys.unraisablehook = hook
    assert "ValueError: of its own" in capsys.readouterr().err
    assert not thing


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


def test_a_signal_that_comes_while_another_is_kept_waits_for_the_imports_end_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To start a thread takes time on a busy machine: the first may come again meanwhile."""
    code = "os.kill(os.getpid(), signal.SIGINT)\nfor _ in range(1000): pass\npassed.append(1)"
    passed: list[int] = []
    started: list[int] = []

    class Slow(threading.Timer):
        def start(self) -> None:
            super().start()
            started.append(1)
            # Whatever the machine takes: the first signal has come again before this ends.
            for _ in range(3000 if len(started) == 1 else 0):
                if len(started) > 1:
                    break
                time.sleep(0.01)

    monkeypatch.setattr(threading, "Timer", Slow)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():  # noqa: PT012
        names = {"os": os, "signal": signal, "passed": passed}
        exec(compile(code, "<frozen importlib._bootstrap>", "exec"), names)
        time.sleep(30)
    assert passed == [1]
    assert len(started) >= 2


@pytest.mark.parametrize("num_signals", [1, 10])
def test_a_signal_in_a_module_that_is_imported_waits_for_it_and_a_second_one_does_not(
    num_signals: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exception would be lost: an importer does without the module, C++ ends the process.

    Ten, as one that comes in the moment in which the first is sent again is one with it.
    """
    (tmp_path / "imported_slowly.py").write_text(
        f"import os, signal, time\nfor _ in range({num_signals}):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.2)\nis_whole = True\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), stopped_by_signals():  # noqa: PT012
        importlib.import_module("imported_slowly")
        time.sleep(30)
    there = sys.modules.pop("imported_slowly", None)
    assert (there is not None) == (num_signals == 1)


def test_what_a_second_signal_has_ended_is_cleaned_up_without_the_first_one_coming_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported.py").write_text(
        "import os, signal, time\nwhile True:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with stopped_by_signals():
        with pytest.raises(KeyboardInterrupt):
            importlib.import_module("never_imported")
        try:
            time.sleep(6 * stopping.AGAIN_S)
        except KeyboardInterrupt:
            pytest.fail("the first one came again")


def test_several_signals_in_an_imports_own_code_come_again_as_one() -> None:
    """A training would take the second one as the wish to end at once."""
    code = "for _ in range(5):\n    os.kill(os.getpid(), signal.SIGINT)"
    came: list[int] = []
    with stopped_by_signals():
        names = {"os": os, "signal": signal}
        exec(compile(code, "<frozen importlib._bootstrap>", "exec"), names)
        before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
        time.sleep(6 * stopping.AGAIN_S)
        signal.signal(signal.SIGINT, before)
    assert came == [signal.SIGINT]
