"""Ctrl-C and SIGTERM at any moment: to the command, and to all of its process group."""

import os
import random
import re
import signal
import time
from pathlib import Path

import pytest

from apdist.training.run_folder.runs import open_run
from tests.pipelines.faults.rows import (
    STEPS,
    Fault,
    Trial,
    Undisturbed,
    World,
    check,
    last_step,
    marker,
    tell,
)
from tests.pipelines.test_cluster import Command, processes_left

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


def stopped(up: World, trial: Trial, command: Command) -> tuple[int, str]:
    """Wait for the end: exit code and output. Nothing is left, and no error was told."""
    code, out, err = command.end()
    assert code in (0, 130), f"{out}\n{err}"
    assert "Traceback" not in err, err
    assert not processes_left(trial.mark)
    assert up.left_over() == []
    return code, out


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_to_the_process_group_is_answered_by_a_checkpoint(
    up: World, two_workers: Undisturbed, tmp_path: Path, kind: signal.Signals
) -> None:
    trial, slow = Trial(f"group {kind.name}"), Fault("slow", tmp_path / "slow")
    slow.file.touch()
    with trial.started(slow.place(up.place), *up.begin(trial.name, workers=2)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) > slow.step)
        sent_s = time.time()
        os.killpg(command.process.pid, kind)
        code, out = stopped(up, trial, command)
        ended_s = time.time()
    assert code == 130
    (done,) = map(int, re.findall(r"stopped after step (\d+); go on with: apdist train", out))
    assert slow.step < done < STEPS
    (checkpoint,) = Path(trial.uri(up)).glob(f"{marker(done)}*")
    took_s = checkpoint.stat().st_mtime - sent_s
    trial.resumed(up)
    assert trial.replayed == 0
    check(up, trial, two_workers)
    tell(
        up,
        trial,
        f"{kind.name} to the process group of a local run",
        f"checkpoint after {took_s:.1f} s, ended after {ended_s - sent_s:.1f} s; resumed",
    )


def test_a_ctrl_c_during_evaluation_0_is_a_stop(
    up: World, two_workers: Undisturbed, tmp_path: Path
) -> None:
    trial, fault = Trial("evaluation 0"), Fault("measure", tmp_path / "told", step=0)
    with trial.started(fault.place(up.place), *up.begin(trial.name, workers=2)) as command:
        command.wait_until(fault.file.exists)
        os.killpg(command.process.pid, signal.SIGINT)
        code, _ = stopped(up, trial, command)
    assert code == 130
    assert open_run(trial.uri(up)).steps_done < STEPS
    trial.resumed(up)
    check(up, trial, two_workers)
    tell(up, trial, "Ctrl-C during evaluation 0", "stopped; resumed")


@pytest.mark.parametrize(("seed", "workers"), [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2)])
def test_a_ctrl_c_at_any_moment_is_a_stop_after_which_the_run_goes_on(
    up: World, alone: Undisturbed, two_workers: Undisturbed, seed: int, workers: int
) -> None:
    """Four in each run, the first of which may come while Python starts."""
    draw, trial = random.Random(seed), Trial(f"interrupted {seed}")
    expected = two_workers if workers else alone
    begin = up.begin(trial.name, workers=workers)
    moments = sorted(draw.uniform(0, 0.6 * expected.seconds) for _ in range(4))
    told = [interrupted(up, trial, begin, moment) for moment in moments]
    if not is_begun(trial.uri(up)):
        up.place.succeed(*begin)
    trial.resumed(up)
    check(up, trial, expected)
    where = f"{workers} workers" if workers else "no Ray"
    tell(up, trial, f"Ctrl-C, {where}: {', '.join(told)}", "stopped each time; resumed")


def is_begun(run: str) -> bool:
    return Path(run, "config.json").exists()


def interrupted(up: World, trial: Trial, begin: list[str], after_s: float) -> str:
    """Begin or resume, Ctrl-C after some time; when that was and what came of it."""
    run = trial.uri(up)
    arguments = ["train", "--resume", run] if is_begun(run) else begin
    with trial.started(up.place, *arguments) as command:
        time.sleep(after_s)
        before = last_step(run)
        if command.process.poll() is None:
            os.killpg(command.process.pid, signal.SIGINT)
        code = stopped(up, trial, command)[0]
    if is_begun(run):  # what was done after the last checkpoint is done again
        trial.replayed += max(0, before - open_run(run).steps_done)
    how = f"step {before}" if before else "before step 1"
    return f"{after_s:.1f} s ({how if code else f'{how}, too late'})"
