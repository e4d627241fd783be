"""A signal in the middle of a start: the process gets its orders first, then the signal counts."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from multiprocessing import util
from typing import Any

import pytest

from apdist.data.child_signals import starting_children
from apdist.data.preparing.encoding import each_as_done

MASK = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def raising(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """A signal whose handler raises, as those of the verbs do."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    kind: signal.Signals = request.param
    before = signal.signal(kind, stop)
    yield kind
    signal.signal(kind, before)


def test_a_signal_waits_until_the_processes_are_started(raising: signal.Signals) -> None:
    reached, begun = False, threading.Event()
    # Another thread takes it: the mask of this one does not keep it away.
    thread = threading.Thread(target=lambda: begun.wait() and signal.raise_signal(raising))
    thread.start()
    with pytest.raises(KeyboardInterrupt), starting_children():  # noqa: PT012
        begun.set()
        thread.join()
        reached = True
    assert reached
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(raising)


def test_children_are_spared_what_goes_to_the_whole_group() -> None:
    with starting_children():
        inside = subprocess.run([sys.executable, "-c", MASK], stdout=subprocess.PIPE, check=True)
    outside = subprocess.run([sys.executable, "-c", MASK], stdout=subprocess.PIPE, check=True)
    assert b"SIGINT" in inside.stdout
    assert b"SIGTERM" in inside.stdout
    assert b"SIGTERM" not in outside.stdout


def test_a_pool_that_a_signal_meets_at_its_start_says_nothing(
    raising: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    start = util.spawnv_passfds  # type: ignore[attr-defined]

    def interrupted(*arguments: Any) -> int:
        pid: int = start(*arguments)
        signal.raise_signal(raising)
        return pid

    monkeypatch.setattr(util, "spawnv_passfds", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(each_as_done([1.0, 2.0], abs, 2))
    assert capfd.readouterr().err == ""
