"""The disk is full, a checkpoint is damaged, or S3 is away."""

import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from apdist.training.events import StepDone
from apdist.training.run_folder.runs import evaluation_name, open_run
from apdist_verbs.__main__ import main
from tests.faulty_proxy import faulty_proxy
from tests.pipelines.faults.rows import (
    EVERY,
    STEPS,
    Fault,
    Trial,
    Undisturbed,
    World,
    check,
    in_one_line,
    is_valid,
    is_whole,
    killed,
    last_step,
    marker,
    s3_place,
    tell,
    wait_for_object,
)
from tests.s3_server import S3Server
from tests.training.run_folder.test_checkpoint import damage

DEADLINE_S = 8
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.s3, pytest.mark.timeout(600)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


# ---- the disk is full


@pytest.fixture
def small_disk(world: World) -> Iterator[Path]:
    path = world.place.folder / "small disk"
    path.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(path)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only who may mount a disk in memory can fill one up")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; returns what has to be deleted to make some."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def filled_up(world: World, trial: Trial, disk: Path, step: int) -> tuple[Path, int, str, str]:
    """Train until the checkpoint ``step`` is there and no room; the ballast, and how it ended."""
    arguments = world.begin(trial.name, "--run.output", trial.root)
    with trial.started(world.place, *arguments) as command:
        command.wait_until(lambda: last_step(trial.uri(world)) >= step - 3)
        run = trial.uri(world)
        while command.process.poll() is None and not is_valid(run, step):
            time.sleep(0.005)
            command.process.send_signal(signal.SIGSTOP)  # between two looks it cannot go far
            if is_valid(run, step):
                break
            command.process.send_signal(signal.SIGCONT)
        ballast = fill(disk)
        command.process.send_signal(signal.SIGCONT)
        return ballast, *command.end()


@pytest.mark.parametrize("step", [EVERY, STEPS], ids=["checkpoint", "finish"])
def test_a_full_disk_ends_a_run_in_a_line_and_it_goes_on_when_there_is_room(
    up: World, alone: Undisturbed, small_disk: Path, step: int
) -> None:
    for attempt in range(5):  # on a busy machine it may be through before the disk is full
        trial = Trial(f"full after {step}, {attempt}", str(small_disk))
        ballast, code, out, err = filled_up(up, trial, small_disk, step)
        if code or step != STEPS:
            break
        ballast.unlink()
    assert code == 2, f"{out}\n{err}"
    assert "No space left on device" in in_one_line(err)
    assert "make room" in err
    assert up.tracked(trial.name).status == "FAILED"
    ballast.unlink()
    trial.resumed(up)
    check(up, trial, alone)
    when = "while checkpointing" if step == EVERY else "while finishing"
    tell(up, trial, f"disk full {when}", "ends in a line; resumed when there was room")


# ---- a checkpoint is damaged


@pytest.fixture(scope="module")
def stopped(world: World, alone: Undisturbed) -> Path:
    """A run with the checkpoints 10 and 15; each test takes a copy."""
    if world.mlflow.process is None:
        world.mlflow.start()
    trial = killed(world, "damaged", 18)
    assert not is_valid(trial.uri(world), 20)
    return Path(trial.uri(world))


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "removed"])
@pytest.mark.parametrize("file", ["state", "marker", "history"])
def test_a_damaged_checkpoint_is_passed_over_and_said(
    world: World,
    alone: Undisturbed,
    stopped: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    file: str,
    how: str,
) -> None:
    trial = Trial(f"{file} {how}")
    run = Path(trial.uri(world))
    shutil.copytree(stopped, run)
    checkpoint = run / "checkpoints" / "step-0000000015"
    (state,), place = checkpoint.glob("state-*"), next(checkpoint.glob("meta-*"))
    (page,) = json.loads(place.read_text())["history"]
    damage({"state": state, "marker": place, "history": run / "history" / page}[file], how)
    trial.replayed = last_step(str(run)) - 10
    assert main(["train", "--resume", str(run), "--tracking.no-enabled"]) == 0
    told = " ".join([caplog.text, *capfd.readouterr()])
    said = " ".join(told.split())
    assert "going on from step 10" in said
    # A folder without a marker is no damage: that checkpoint was never finished.
    assert ("passed over a damaged" in said) == ((file, how) != ("marker", "removed"))
    check(world, trial, alone, tracked=False)
    tell(world, trial, f"{file} of the newest checkpoint {how}", "passed over, said")


# ---- storage is away


@pytest.mark.parametrize("begins", ["checkpoint", "evaluation"])
def test_storage_that_is_away_for_seconds_is_waited_for(
    up: World, alone: Undisturbed, on_s3: S3Server, begins: str
) -> None:
    trial = Trial(f"away during {begins}", f"s3://{on_s3.bucket}/runs")
    with faulty_proxy(on_s3.endpoint) as proxy:
        place = s3_place(up, proxy.endpoint, on_s3)
        arguments = up.begin(trial.name, "--run.output", trial.root)
        with trial.started(place, *arguments) as command:
            # An evaluation begins with a checkpoint; after its scores a checkpoint comes next.
            scores = evaluation_name("test", 5)
            first = scores if begins == "checkpoint" else marker(5)
            wait_for_object(command, on_s3, trial, first)
            proxy.refuse()
            time.sleep(6)
            proxy.listen()
            code, out, err = command.end()
    is_whole(code, out, err)
    check(up, trial, alone)
    tell(up, trial, f"storage away during {begins}, 6 s", "waited for")


def test_storage_that_stays_away_ends_a_run_in_a_line_and_it_goes_on_when_it_is_back(
    up: World, alone: Undisturbed, on_s3: S3Server
) -> None:
    trial = Trial("away for long", f"s3://{on_s3.bucket}/runs")
    with faulty_proxy(on_s3.endpoint) as proxy:
        place = s3_place(up, proxy.endpoint, on_s3)
        # Where the worker's own threads read, the deadline is that of all it does on storage.
        patience = ["--data.read-deadline-s", str(DEADLINE_S)]
        arguments = up.begin(trial.name, "--run.output", trial.root, *patience)
        with trial.started(place, *arguments) as command:
            wait_for_object(command, on_s3, trial, marker(5))
            proxy.refuse()
            started = time.monotonic()
            code, out, err = command.end()
        waited = time.monotonic() - started
        assert code == 2, f"{out}\n{err}"
        assert re.search(r"s3://.*: gave up after .* \(deadline 8 s\)", in_one_line(err))
        assert waited < DEADLINE_S + 45
        assert up.tracked(trial.name).status == "FAILED"
        proxy.listen()
        trial.resumed(up, place)
    check(up, trial, alone)
    tell(up, trial, "storage away for longer than its deadline", f"ends after {waited:.0f} s")


# ---- a run in S3 is gone on with


def test_a_run_in_s3_is_gone_on_with_by_two_workers(
    up: World, two_workers: Undisturbed, on_s3: S3Server, tmp_path: Path
) -> None:
    trial, noted = (
        Trial("resumed from s3", f"s3://{on_s3.bucket}/runs"),
        Fault("note", tmp_path / "t"),
    )
    place = s3_place(up, on_s3.endpoint, on_s3)
    arguments = up.begin(trial.name, "--run.output", trial.root, workers=2)
    with trial.started(place, *arguments) as command:
        wait_for_object(command, on_s3, trial, marker(15))
        command.process.send_signal(signal.SIGINT)
        assert command.end()[0] == 130
    done = open_run(trial.uri(up)).steps_done
    began_s = time.time()
    trial.resumed(up, noted.place(place))
    first = next(e for e in open_run(trial.uri(up)).of_kind(StepDone) if e.step > done)
    times = dict(line.split() for line in noted.file.read_text().splitlines())
    rays_s = float(times["train"]) - float(times["ray_cluster"])
    beyond_s = first.time_ms / 1000 - began_s - rays_s
    check(up, trial, two_workers)
    told = (
        f"the first step {beyond_s:.1f} s after the command, without Ray's start of {rays_s:.1f} s"
    )
    tell(up, trial, "a run in S3 resumed with two workers", told)
