"""The number of workers changes in one run, as hosts come and go."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from apdist.training.events import Restarted, StepDone
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
)
from tests.pipelines.test_cluster import Command
from tests.ray_nodes import RayNodes, environment, ray_nodes

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(900)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


@pytest.fixture
def slow(tmp_path: Path) -> Fault:
    """Steps take their time from step 6 on, as long as its file is there."""
    fault = Fault("slow", tmp_path / "slow", step=6)
    fault.file.touch()
    return fault


@pytest.fixture
def slow_nodes(tmp_path: Path, slow: Fault) -> Iterator[RayNodes]:
    with ray_nodes({**environment(tmp_path), **slow.environment()}, tmp_path / "log.txt") as nodes:
        yield nodes


def test_a_run_goes_from_two_workers_to_three_and_to_one(
    up: World, two_workers: Undisturbed, slow_nodes: RayNodes, slow: Fault
) -> None:
    trial, nodes = Trial("two three one"), slow_nodes
    where = ["--ray.address", nodes.address, "--ray.num-workers", "1-3"]
    with trial.started(up.place, *up.begin(trial.name, *where)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) > slow.step)
        assert len(nodes.workers()) == 2
        third = nodes.add()
        (grown,) = restarts(up, trial, command, 1)
        command.wait_until(lambda: last_step(trial.uri(up)) > grown.step + 1)
        for node in (third, nodes.second):
            nodes.kill(node)
        seen = last_step(trial.uri(up))
        shrunk = restarts(up, trial, command, 2)[-1]
        slow.file.unlink()
        is_whole(*command.end())
    trial.replayed = seen - shrunk.step
    assert (grown.num_before, grown.num_workers) == (2, 3)
    assert (shrunk.num_before, shrunk.num_workers) == (3, 1)
    check(up, trial, two_workers, exact=False)
    losses = [event.figures["loss"] for event in open_run(trial.uri(up)).of_kind(StepDone)]
    assert losses[: grown.step] == two_workers.losses[: grown.step]  # with two workers
    tell(up, trial, "2 -> 3 -> 1 workers: a host comes, two are lost", "equal to 1e-5")


def restarts(up: World, trial: Trial, command: Command, number: int) -> list[Restarted]:
    """All, when there are so many."""

    def found() -> list[Restarted]:
        return open_run(trial.uri(up)).of_kind(Restarted)

    command.wait_until(lambda: len(found()) >= number)
    return found()
