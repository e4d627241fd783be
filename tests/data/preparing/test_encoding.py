"""`apdist prepare` with several processes, stopped in the middle: nothing half-written counts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from apdist.data.preparing import encoding
from apdist.data.preparing.encoding import check_stopped, each_as_done
from apdist_verbs.__main__ import main
from tests.places import ROOT

APDIST = """
import signal, sys
from apdist_verbs.__main__ import main
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    sys.exit(main(sys.argv[1:]))
"""
DEADLINE_S = 60


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough pictures that need encoding for several processes and a few seconds."""
    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for label in range(6):
        (root / str(label)).mkdir()
        for number in range(100):
            pixels = random.integers(0, 255, (300, 300, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / str(label) / f"{number}.bmp")
    return root


@pytest.fixture
def prepare(images: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`apdist prepare` in a session of its own, caught when the first shards are written."""
    out = tmp_path / "shards"
    options = ["--out", str(out), "--processes", "2", "--shard-mib", "1"]
    with subprocess.Popen(
        [sys.executable, "-c", APDIST, "prepare", "folder", str(images), *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            until(lambda: any(out.glob("*.tar")))
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def have_ended(processes: list[psutil.Process]) -> bool:
    return not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes)


def test_ctrl_c_ends_all_processes_and_leaves_nothing(
    prepare: subprocess.Popen[str], tmp_path: Path
) -> None:
    children = psutil.Process(prepare.pid).children(recursive=True)
    assert len(children) >= 2
    os.killpg(prepare.pid, signal.SIGINT)  # as a terminal does
    _, err = prepare.communicate(timeout=DEADLINE_S)
    assert prepare.returncode == 130
    assert err == f"apdist: stopped; nothing was written to {tmp_path / 'shards'}\n"
    assert not (tmp_path / "shards").exists()
    until(lambda: have_ended(children))


def test_a_kill_ends_all_processes_and_what_is_left_is_not_taken_for_a_data_set(
    prepare: subprocess.Popen[str],
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    children = psutil.Process(prepare.pid).children(recursive=True)
    prepare.kill()
    until(lambda: have_ended(children))
    shards = str(tmp_path / "shards")
    for command in (
        ["prepare", "folder", str(images), "--out", shards],
        ["train", "glyphs", "--data.shards", shards],
    ):
        assert main(command) == 2
        assert "was cut off" in (told := capsys.readouterr().err)
        assert "prepare again" in told


def test_a_pool_that_was_interrupted_while_it_started_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls, shutdown = list[int](), ProcessPoolExecutor.shutdown

    def starting(pool: ProcessPoolExecutor, **options: bool) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise RuntimeError("cannot join thread before it is started")
        shutdown(pool, **options)

    monkeypatch.setattr(ProcessPoolExecutor, "shutdown", starting)
    with pytest.raises(KeyboardInterrupt), encoding._processes(2):
        raise KeyboardInterrupt
    assert len(calls) == 3


def work_until_stopped(seconds: float) -> float:
    """Looks up all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        check_stopped()
        time.sleep(0.01)
    return seconds


def hang(seconds: float) -> float:
    """Never looks up."""
    time.sleep(seconds)
    return seconds


def test_jobs_come_back_as_they_get_done() -> None:
    assert sorted(each_as_done([0.2, 0.01, 0.1], work_until_stopped, 2)) == [
        (0, 0.2),
        (1, 0.01),
        (2, 0.1),
    ]


def leave_notes(job: tuple[float, Path]) -> float:
    """Looks up all the time; leaves a file when it begins, and one when it is stopped."""
    seconds, folder = job
    (folder / "begun").touch()
    try:
        return work_until_stopped(seconds)
    except InterruptedError:
        (folder / "stopped").touch()
        raise


def test_leaving_early_stops_the_jobs_in_hand(tmp_path: Path) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    short.mkdir()
    long.mkdir()
    jobs = each_as_done([(0.01, short), (1000.0, long)], leave_notes, 2)
    assert next(jobs) == (0, 0.01)
    until((long / "begun").exists)
    jobs.close()
    assert (long / "stopped").exists()
    assert not (short / "stopped").exists()


def test_leaving_early_does_not_wait_for_a_job_that_hangs() -> None:
    jobs = each_as_done([0.01, 1000.0, 1000.0], hang, 2)
    assert next(jobs) == (0, 0.01)
    jobs.close()  # within `GRACE_S`, and the end of the processes
