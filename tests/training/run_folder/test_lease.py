import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import locks
from apdist.data.storage.locks import myself
from apdist.training.run_folder import lease
from apdist.training.run_folder.lease import Lease, LeaseLost, held, holder_of
from tests.s3_server import S3Server

HOLD = """
import sys, time
from apdist.training.run_folder.lease import held
with held(sys.argv[1], print):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.s3)])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The folder of a run, on a disk and in object storage."""
    if request.param == "disk":
        return str(tmp_path / "run")
    server: S3Server = request.getfixturevalue("s3")
    return f"s3://{server.bucket}/{tmp_path.name}/run"


@pytest.fixture
def holder(run: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that trains into the run."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def says_nothing(text: str) -> None:
    raise AssertionError(text)


def elsewhere(run: str, renewals: int = 0) -> None:
    """Let the lease look as if a process of another machine held it."""
    other = replace(myself(), host="far", machine="far/1/2", pid=1, renewals=renewals)
    storage.write_bytes(lease._place(run, max(1, lease._newest(run))), lease._encoded(other))


def test_a_run_that_is_being_trained_is_refused_with_who_and_since_when(
    run: str, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(ValueError, match=rf"trained by process {holder.pid} on .* since 20.*UTC"):
        held(run, says_nothing).__enter__()
    assert str(holder_of(run)).startswith(f"process {holder.pid} on")


def test_a_killed_holder_on_this_machine_is_succeeded_at_once(
    run: str, holder: subprocess.Popen[str]
) -> None:
    forgotten = Lease(run, 1)
    forgotten.refuse_if_lost()
    holder.kill()  # not waited for: it is a zombie now, as a killed child of a shell is
    while not locks._is_zombie(holder.pid):
        pass
    assert holder_of(run) is None
    with held(run, says_nothing) as taken:
        taken.refuse_if_lost()
        with pytest.raises(LeaseLost, match=rf"taken over by process {os.getpid()} on"):
            forgotten.refuse_if_lost()


def test_a_process_with_the_same_number_is_not_the_holder(run: str) -> None:
    with held(run, says_nothing) as taken:
        mine = lease._read(run, taken.number)
        assert mine is not None
        storage.write_bytes(lease._place(run, 1), lease._encoded(replace(mine, started="1")))
        assert holder_of(run) is None


def test_a_lease_that_was_given_back_is_free_and_its_number_never_comes_again(run: str) -> None:
    with held(run, says_nothing) as first:
        pass
    with held(run, says_nothing) as second:
        assert second.number == first.number + 1
    with pytest.raises(LeaseLost, match="another process"):
        first.refuse_if_lost()
    assert storage.list_files(storage.join(run, "writer")) == ["00000002.json"]


def test_a_silent_holder_elsewhere_is_waited_for_and_succeeded(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SILENCE_S", 0.4)
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    elsewhere(run)
    said: list[str] = []
    with held(run, said.append):
        assert [text.split(" by ")[0] for text in said] == [
            f"{run} was last written",
            f"no sign of life: taking {run} over",
        ]


def test_a_holder_elsewhere_that_renews_keeps_the_run(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "POLL_S", 0.05)
    elsewhere(run)
    refused = threading.Event()

    def renew() -> None:
        renewals = 0
        while not refused.wait(0.1):
            elsewhere(run, renewals := renewals + 1)

    alive = threading.Thread(target=renew)
    alive.start()
    try:
        with pytest.raises(ValueError, match="is being trained by process 1 on far"):
            held(run, lambda _: None).__enter__()
    finally:
        refused.set()
        alive.join()


def test_a_lease_is_renewed_while_it_is_held(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    with held(run, says_nothing) as taken:
        for _ in range(400):
            now = lease._read(run, taken.number)
            if now is not None and now.renewals > 1:
                return
            threading.Event().wait(0.05)
    raise AssertionError("it was not renewed in 20 s")


def test_of_many_that_want_a_run_one_gets_it(run: str) -> None:
    taken, refused = [], []
    together, end = threading.Barrier(8), threading.Event()

    def want() -> None:
        together.wait()
        try:
            with held(run, says_nothing) as mine:
                taken.append(mine)
                end.wait(60)
        except ValueError as error:
            refused.append(error)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(taken) + len(refused) < 8:
        threading.Event().wait(0.02)
    end.set()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_a_damaged_lease_keeps_nobody_out(tmp_path: Path) -> None:
    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / "00000004.json").write_text("{")
    (tmp_path / "writer" / "note.json").write_text("{}")
    with held(str(tmp_path), says_nothing) as taken:
        assert taken.number == 5
        assert json.loads((tmp_path / "writer/00000005.json").read_text())["pid"] == os.getpid()


def test_a_holder_that_was_halted_for_long_finds_that_another_has_gone_on(
    run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held(run, says_nothing) as mine:
        assert mine.is_fresh()
        elsewhere(run)  # nobody can have taken it: storage is not asked
        storage.create(lease._place(run, mine.number + 1), b"{}")
        mine.refuse_if_silent()
        monkeypatch.setattr(lease, "_clock_s", lambda: mine.renewed_s + lease.SILENCE_S)
        with pytest.raises(LeaseLost, match="was taken over"):
            mine.refuse_if_silent()
        assert mine.is_lost_for_good()


def test_a_worker_does_not_take_over_the_clock_of_the_driver(run: str) -> None:
    with held(run, says_nothing) as mine:
        copy = pickle.loads(pickle.dumps(mine))
        assert copy == mine
        assert not copy.is_fresh()
        copy.refuse_if_silent()


def test_a_run_that_is_removed_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "RENEW_S", 0.05)
    run = tmp_path / "run"
    with held(str(run), says_nothing) as taken:
        taken.refuse_if_lost()
        shutil.rmtree(run)
        with pytest.raises(LeaseLost, match="was removed while it was trained"):
            taken.refuse_if_lost()
        threading.Event().wait(0.3)  # some renewals
        assert not run.exists()
    assert not run.exists()
