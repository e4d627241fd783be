"""A worker is killed, raises, runs out of memory or hangs; all of them go on from a checkpoint."""

import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from apdist.training.events import Restarted
from apdist.training.run_folder.runs import open_run
from tests.pipelines.faults.rows import (
    Fault,
    Trial,
    Undisturbed,
    World,
    check,
    is_whole,
    last_step,
    tell,
    when,
)
from tests.pipelines.test_cluster import Place
from tests.ray_nodes import RayNodes

MEMORY = Path("/sys/fs/cgroup/memory")
MOST_BYTES = 6 << 30
"""For a Ray with two workers, which takes half of it."""
NOTICED_S = 60
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(600)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


@pytest.mark.parametrize(("after", "start"), [(2, 0), (13, 10)], ids=["before", "after"])
def test_a_worker_that_is_killed_is_told_and_costs_nothing_but_time(
    up: World, nodes: RayNodes, two_workers: Undisturbed, after: int, start: int
) -> None:
    trial = Trial(f"worker after {after}")
    every = ["--checkpoint.every-steps", "10", "--ray.address", nodes.address]
    with trial.started(up.place, *up.begin(trial.name, *every, workers=2)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= after)
        killed_s = time.time()
        nodes.workers()[0].kill()
        seen = last_step(trial.uri(up))
        code, out, err = command.end()
    is_whole(code, out, err)
    trial.replayed = seen - start
    check(up, trial, two_workers)
    (event,) = open_run(trial.uri(up)).of_kind(Restarted)
    assert (event.step, event.restarts_left) == (start, 2)
    said = " ".join((out + err).split())
    # How it died, Ray does not always know; and its neighbour may be heard first.
    cause = "(its process was killed|its process died|it lost the connection to another worker)"
    assert re.search(f"worker \\d on .*: {cause}; went on from step {start},", said)
    tags = up.tracked(trial.name).tags
    assert tags[f"apdist.restart.{event.happened_ms}"] == str(event)
    checkpoint = "before the first checkpoint" if start == 0 else "after a checkpoint"
    tell(up, trial, f"worker killed {checkpoint}", when(event, killed_s))


def goes_on(up: World, trial: Trial, place: Place, fault: Fault) -> Restarted:
    """Train on two workers of a local Ray through ``fault``; how it went on."""
    every = ["--checkpoint.every-steps", "10"]
    with trial.started(place, *up.begin(trial.name, *every, workers=2)) as command:
        code, out, err = command.end()
    is_whole(code, out, err)
    (event,) = open_run(trial.uri(up)).of_kind(Restarted)
    assert (event.step, event.restarts_left) == (10, 2)
    assert event.cause in " ".join((out + err).split())
    trial.replayed = fault.step - event.step
    return event


@pytest.mark.parametrize("kind", ["fail_in_the_network", "fail_between_the_passes"])
def test_an_exception_in_a_step_is_told_and_costs_nothing_but_time(
    up: World, two_workers: Undisturbed, tmp_path: Path, kind: str
) -> None:
    trial, fault = Trial(kind), Fault(kind, tmp_path / "told")
    event = goes_on(up, trial, fault.place(up.place), fault)
    assert "made by a test" in event.cause
    assert event.cause.startswith("worker 1 on ") or "worker 1 of 2 failed" in event.cause
    check(up, trial, two_workers)
    where = kind.replace("_", " ").removeprefix("fail ")
    tell(up, trial, f"a worker raises {where}", when(event, fault.time_s))


def test_a_worker_that_kills_itself_is_told_and_costs_nothing_but_time(
    up: World, two_workers: Undisturbed, tmp_path: Path
) -> None:
    trial, fault = Trial("kills itself"), Fault("kill", tmp_path / "told")
    event = goes_on(up, trial, fault.place(up.place), fault)
    check(up, trial, two_workers)
    tell(up, trial, "a worker ends by SIGKILL in a step", when(event, fault.time_s))


@pytest.fixture
def little_memory() -> Iterator[tuple[str, ...]]:
    """Begins a command line that may have so much memory, and believes that there is no more."""
    group = MEMORY / f"apdist-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(MOST_BYTES))
    except OSError as error:
        pytest.skip(f"no group of processes with little memory can be made here ({error})")
    join = f'echo $$ > {group}/cgroup.procs && mount --bind {group} {MEMORY} && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", join, "sh")
    if subprocess.run([*before, "true"], capture_output=True).returncode != 0:
        group.rmdir()
        pytest.skip("only who may mount can show a process less memory")
    yield before
    group.rmdir()


@pytest.mark.parametrize(
    ("kind", "refresh_ms", "who"),
    [("eat", "250", "Ray's memory monitor"), ("eat_at_once", "0", "the kernel")],
    ids=["Ray", "kernel"],
)
def test_a_worker_that_runs_out_of_memory_is_told_and_costs_nothing_but_time(
    up: World,
    two_workers: Undisturbed,
    tmp_path: Path,
    little_memory: tuple[str, ...],
    kind: str,
    refresh_ms: str,
    who: str,
) -> None:
    trial, fault = Trial(f"out of memory by {who}"), Fault(kind, tmp_path / "told")
    seen = {"RAY_memory_monitor_refresh_ms": refresh_ms, "RAY_memory_usage_threshold": "0.85"}
    event = goes_on(up, trial, fault.place(up.place, little_memory, **seen), fault)
    check(up, trial, two_workers)
    said = "ran low on memory" if who.startswith("Ray") else "its process (was killed|died)"
    assert re.search(f"{said}|lost the connection", event.cause)
    tell(up, trial, f"a worker out of memory, killed by {who}", when(event, fault.time_s))


def test_a_worker_that_hangs_is_noticed_and_costs_nothing_but_time(
    up: World, two_workers: Undisturbed, tmp_path: Path
) -> None:
    trial, fault = Trial("hangs"), Fault("halt", tmp_path / "told")
    event = goes_on(up, trial, fault.place(up.place), fault)
    assert event.happened_ms / 1000 - fault.time_s < NOTICED_S
    assert "worker 1 on " in event.cause
    assert "does not answer any more" in event.cause
    check(up, trial, two_workers)
    tell(up, trial, "a worker hangs (SIGSTOP)", when(event, fault.time_s))


def test_a_step_that_takes_longer_than_a_health_check_is_no_failure(
    up: World, two_workers: Undisturbed, tmp_path: Path
) -> None:
    timeout_s = 6
    trial, fault = Trial("long step"), Fault("compute", tmp_path / "told")
    more = {"RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(timeout_s)}
    place = fault.place(up.place, APDIST_TEST_LONG_S=str(2 * timeout_s), **more)
    with trial.started(place, *up.begin(trial.name, workers=2)) as command:
        is_whole(*command.end())
    assert float(fault.file.read_text()) >= 2 * timeout_s  # in a single product
    check(up, trial, two_workers)
    assert open_run(trial.uri(up)).of_kind(Restarted) == []
    tell(up, trial, f"a step takes {2 * timeout_s} s at least, timeout {timeout_s} s", "waited for")
