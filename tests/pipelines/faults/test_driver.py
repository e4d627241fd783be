"""The driver of a training is killed, stopped, halted, or there are two of them at once."""

import random
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from apdist.training.events import Evaluated
from apdist.training.run_folder.runs import open_run
from tests.pipelines.faults.rows import (
    EVERY,
    STEPS,
    Trial,
    Undisturbed,
    World,
    check,
    check_tracked,
    halted,
    in_one_line,
    killed,
    killed_again,
    last_step,
    marker,
    s3_place,
    tell,
    wait_for_object,
    without_repeats,
)
from tests.ray_nodes import RayNodes
from tests.s3_server import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.s3, pytest.mark.timeout(600)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


# ---- the driver is killed


def test_a_driver_that_is_killed_at_any_step_costs_nothing_but_time(
    up: World, alone: Undisturbed
) -> None:
    draw = random.Random(int(time.time()))
    moments = sorted(draw.sample(range(1, STEPS), 3))
    trial = killed(up, "killed", moments[0])
    for moment in moments[1:]:
        killed_again(up, trial, moment)
    trial.resumed(up)
    check(up, trial, alone)
    tell(up, trial, f"driver killed at steps {moments}, local disk", "resumed three times")


def test_a_driver_that_is_killed_on_s3_costs_nothing_but_time(
    up: World, alone: Undisturbed, on_s3: S3Server
) -> None:
    draw = random.Random(int(time.time()))
    place = s3_place(up, on_s3.endpoint, on_s3)
    trial = Trial("killed on s3", f"s3://{on_s3.bucket}/runs")
    arguments = up.begin(trial.name, "--run.output", trial.root)
    for number, step in enumerate((5, 15)):
        again = ["train", "--resume", trial.uri(up)]
        with trial.started(place, *(again if number else arguments)) as command:
            wait_for_object(command, on_s3, trial, marker(step))
            time.sleep(draw.random())
            command.process.kill()
            command.process.wait()
    trial.resumed(up, place)
    check(up, trial, alone)
    tell(up, trial, "driver killed after the checkpoints 5 and 15, S3", "resumed twice")


def test_a_driver_that_is_killed_while_its_workers_live_on(
    up: World, nodes: RayNodes, two_workers: Undisturbed
) -> None:
    trial = Trial("driver of two")
    arguments = up.begin(trial.name, "--ray.address", nodes.address, workers=2)
    with trial.started(up.place, *arguments) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= 8)
        assert len(nodes.workers()) == 2
        command.process.kill()
        command.process.wait()
    trial.resumed(up)
    check(up, trial, two_workers)
    assert nodes.workers() == []
    tell(up, trial, "driver killed, two workers on a cluster live on", "resumed at once")


def test_a_run_goes_on_with_another_number_of_workers(
    up: World, nodes: RayNodes, two_workers: Undisturbed
) -> None:
    trial = killed(up, "fewer", 12)
    trial.resumed(up, None, "--ray.address", nodes.address, "--ray.num-workers", "2")
    check(up, trial, two_workers, exact=False)
    tell(up, trial, "driver killed, resumed with two workers in place of none", "equal to 1e-5")


# ---- two at once, a stop, a halt


def test_of_two_resumes_at_once_one_is_refused(up: World, alone: Undisturbed) -> None:
    trial = killed(up, "wanted", 7)
    again = ["train", "--resume", trial.uri(up), "--evaluation.batch-size"]
    with (
        trial.started(up.place, *again, "16") as one,
        trial.started(up.place, *again, "32") as other,
    ):
        ends = [one.end(), other.end()]
    (refused,) = [end for end in ends if end[0] != 0]
    assert sorted(end[0] for end in ends) == [0, 2], ends
    assert re.search(r"is being trained by process \d+ on .* since ", in_one_line(refused[2]))
    winner = "16" if ends[0][0] == 0 else "32"
    assert open_run(trial.uri(up)).config.evaluation.batch_size == int(winner)
    trial.replayed = 2
    check(up, trial, alone)
    tell(up, trial, "two resumes at once", "one refused with who trains since when")


@pytest.mark.parametrize("step", [EVERY - 1, STEPS - 1], ids=["evaluation", "last"])
def test_a_stop_at_an_evaluation_or_the_last_step_leaves_nothing_out(
    up: World, alone: Undisturbed, step: int
) -> None:
    trial = Trial(f"stopped at {step}")
    with trial.started(up.place, *up.begin(trial.name)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= step)
        command.process.send_signal(signal.SIGINT)
        code, out, err = command.end()
    run = open_run(trial.uri(up))
    done, stopped = run.steps_done, not run.is_complete
    assert code == (130 if stopped else 0), f"{out}\n{err}"
    assert (f"stopped after step {done}; go on with" in out) == stopped
    assert up.tracked(trial.name).status == ("KILLED" if stopped else "FINISHED")
    evaluated = [event.step for event in open_run(trial.uri(up)).of_kind(Evaluated)]
    assert evaluated == list(range(0, done + 1, EVERY))
    trial.resumed(up)
    check(up, trial, alone)
    tell(up, trial, f"Ctrl-C at step {step}", "evaluated, saved; resumed")


def elsewhere() -> tuple[str, ...]:
    """Begins a command line that runs under another host name: for a lease another machine."""
    for namespaces in (["--uts"], ["--user", "--map-root-user", "--uts"]):
        prefix = ("unshare", *namespaces, "sh", "-c", 'hostname elsewhere && exec "$@"', "sh")
        try:
            if subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
                return prefix
        except OSError:
            break
    pytest.skip("no namespace with another host name can be made here")


def test_a_driver_that_is_halted_for_longer_than_its_lease_writes_nothing_more(
    up: World, alone: Undisturbed
) -> None:
    trial = Trial("halted")
    other = replace(up.place, before=elsewhere())
    with trial.started(up.place, *up.begin(trial.name)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= 8)
        with halted(command):
            step = last_step(trial.uri(up))
            started = time.monotonic()
            said = trial.resumed(up, other)
            waited = time.monotonic() - started
            before = contents(Path(trial.uri(up)))
        code, out, err = command.end()
    assert "s for a sign of life" in said
    assert code == 2, f"{out}\n{err}"
    assert re.search(r"was taken over by .*; this one writes nothing more", in_one_line(err))
    assert contents(Path(trial.uri(up))) == before
    check(up, trial, alone, tracked=False)
    check_tracked(without_repeats(up.tracked(trial.name), step), alone, exact=True)
    tell(up, trial, "driver halted, another machine takes over", f"taken over, {waited:.0f} s")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
