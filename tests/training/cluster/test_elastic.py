"""Workers that come and go: a Ray whose hosts are added, drained and lost under a training."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from apdist.config import RayConfig
from apdist.training.cluster import elastic
from apdist.training.cluster.elastic import (
    IDLE,
    elastic_trainer,
    free_room,
    note_sigterm,
    occupy,
    policies,
)
from apdist.training.events import Event, Restarted, StepDone
from apdist.training.mailbox import Mailbox
from apdist.training.regrouping import Regrouped
from apdist.training.run_folder.runs import Run, open_run
from tests.pictures import write_folder
from tests.pipelines.faults.rows import OPTIONS, Trial, last_step
from tests.pipelines.test_cluster import Command, Place, processes_left, same_but_for_rounding
from tests.ray_nodes import RayNodes, environment, ray_nodes

LOST = RuntimeError("Connection reset by peer")
ENDLESS = [
    *("--training.learning-rate", "2e-6", "--training.schedule", "constant"),
    "--tracking.no-enabled",
    "--training.steps",
]
"""As many as are wanted: few would be over before a host has come."""


@dataclass(frozen=True)
class World:
    """A machine with shards, and a training on it."""

    place: Place
    trial: Trial
    command: Command
    nodes: RayNodes

    @property
    def steps(self) -> int:
        return last_step(f"{self.place.folder}/runs/elastic")

    def going_on(self, more: int = 3) -> None:
        """Wait until some more steps are done."""
        until = self.steps + more
        self.command.wait_until(lambda: self.steps >= until)

    def restarted(self, number: int, what: str, disturb: Callable[[], object]) -> Restarted:
        """Disturb the training, wait until it goes on for the ``number``-th time; print the row."""
        disturb()
        began_ms, before = time.time() * 1000, self.steps
        run = f"{self.place.folder}/runs/elastic"

        def found() -> list[Restarted]:
            return open_run(run).of_kind(Restarted)

        self.command.wait_until(lambda: len(found()) == number)
        event = found()[-1]
        self.going_on()
        ended_s = (event.happened_ms - began_ms) / 1000
        print(
            f"\n| {what} | {event} | after {ended_s:.1f} s the workers had ended, after "
            f"{(event.time_ms - began_ms) / 1000:.1f} s they went on | at step {before}, from step "
            f"{event.step} |"
        )
        return event


def arguments(place: Place, name: str, steps: int, *more: str) -> list[str]:
    where = ["--data.shards", "shards", "--run.output", "runs", "--run.name", name]
    every = ["--evaluation.every-steps", "100000", "--checkpoint.every-steps", "20"]
    return ["train", "glyphs", *OPTIONS, *where, *every, *ENDLESS, str(steps), *more]


def drain(world: World, node: str, seconds: int) -> None:
    """Give notice: the host is to go after some seconds."""
    ray = [f"{Path(sys.executable).parent}/ray", "drain-node", "--address", world.nodes.address]
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    when = ["--node-id", node, "--deadline-remaining-seconds", str(seconds)]
    env = {**os.environ, **world.place.environment}
    subprocess.run([*ray, *why, *when], env=env, check=True, capture_output=True)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1500)
@pytest.mark.filterwarnings("ignore")  # of libraries that a training imports
def test_hosts_that_come_and_go_with_and_without_notice_cost_nothing_but_time(
    tmp_path: Path,
) -> None:
    write_folder(tmp_path / "pictures", {f"class {label:02}": 6 for label in range(20)})
    place, trial = Place(tmp_path, {**environment(tmp_path), "OMP_NUM_THREADS": "1"}), Trial("e")
    place.succeed("prepare", "folder", "pictures", "--out", "shards")
    with ray_nodes(environment(tmp_path), tmp_path / "log.txt") as nodes:
        more = ["--ray.num-workers", "1-3", "--ray.address", nodes.address]
        with trial.started(place, *arguments(place, "elastic", 100_000, *more)) as command:
            world = World(place, trial, command, nodes)
            world.going_on(5)
            assert len(nodes.workers()) == 2

            third: list[str] = []
            grown = world.restarted(1, "a host comes", lambda: third.append(nodes.add()))
            assert (grown.num_before, grown.num_workers) == (2, 3)
            assert grown.step % 20 == 0

            noted = world.restarted(2, "a host is drained", lambda: drain(world, third[0], 300))
            assert (noted.num_before, noted.num_workers) == (3, 2)
            assert f"its host is to be taken back; checkpoint after step {noted.step};" in str(
                noted
            )

            worker = nodes.workers()[-1]
            sent = world.restarted(3, "SIGTERM to a worker", worker.terminate)
            assert (sent.num_before, sent.num_workers, sent.restarts_left) == (2, 2, 3)
            assert f"got a SIGTERM; checkpoint after step {sent.step};" in str(sent)

            lost = world.restarted(4, "a host is lost", lambda: nodes.kill(nodes.second))
            assert (lost.num_before, lost.num_workers, lost.restarts_left) == (2, 1, 2)

            command.process.send_signal(signal.SIGINT)
            code, out, err = command.end()
        assert code == 130, f"{out}\n{err}"
        assert "went on from step" in out
        assert not processes_left(trial.mark)
    run = open_run(f"{tmp_path}/runs/elastic")
    done = losses(run)
    place.succeed(*arguments(place, "alone", len(done), "--ray.num-workers", "0"))
    same_but_for_rounding(done, losses(open_run(f"{tmp_path}/runs/alone")))


def losses(run: Run) -> list[float]:
    """By step, each of which is there once."""
    steps = run.of_kind(StepDone)
    assert [event.step for event in steps] == list(range(1, len(steps) + 1))
    return [event.figures["loss"] for event in steps]


def test_the_first_sigterm_is_a_notice_and_the_second_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []
    monkeypatch.setattr(elastic, "_terminations", [])
    before = signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    try:
        note_sigterm()
        os.kill(os.getpid(), signal.SIGTERM)
        assert (elastic.preemption_notice(), ended) == ("its process got a SIGTERM", [])
        os.kill(os.getpid(), signal.SIGTERM)
        assert ended == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def decisions(per_hour: int, *ends: Exception) -> list[str]:
    """Of Ray's controller, one after the other."""
    config = RayConfig(restarts_per_hour=per_hour)
    policy = policies(config, Mailbox[Event](), None, FailureConfig())["failure_policy"]
    errors = [WorkerGroupError("", {0: LOST, 1: end}) for end in ends]
    return [policy.make_decision(error).value for error in errors]


def test_failures_take_restarts_and_notices_do_not() -> None:
    died = WorkerHealthCheckFailedError("Failed.", ActorDiedError())
    noticed = Regrouped("its host is to be taken back; checkpoint after step 7", (1,))
    retry, end = "RETRY", "RAISE"
    assert decisions(2, died, *[noticed] * 9, died, died) == [retry] * 11 + [end]
    assert decisions(0, noticed, died) == [retry, end]


def test_bad_input_takes_no_restart_and_an_exception_of_a_trial_is_the_sweeps() -> None:
    raised, refused = RuntimeError("no such kernel"), ValueError("no such file")
    died = WorkerHealthCheckFailedError("Failed.", ActorDiedError())
    assert decisions(3, refused) == decisions(3, OSError("no route")) == ["RAISE"]
    assert decisions(3, raised, raised) == ["RETRY"] * 2
    config = RayConfig(restarts_per_hour=3)

    def of_trial(end: Exception) -> str:
        given = config, Mailbox[Event](), None, FailureConfig(), True
        policy = policies(*given)["failure_policy"]
        return str(policy.make_decision(WorkerGroupError("", {0: LOST, 1: end})).value)

    assert [of_trial(end) for end in (raised, died, LOST)] == ["RAISE", "RETRY", "RETRY"]


@pytest.mark.filterwarnings("ignore")  # Ray's own deprecations
def test_no_process_is_started_that_would_have_nothing_to_do(tmp_path: Path) -> None:
    kind = elastic_trainer()
    given = ScalingConfig(num_workers=1), RunConfig(storage_path=str(tmp_path))
    trainer = kind(print, policies={}, scaling_config=given[0], run_config=given[1])
    left = {type(callback).__name__ for callback in trainer._create_default_callbacks()}
    usual = super(kind, trainer)._create_default_callbacks()
    # If Ray calls them otherwise one day, they are back: it costs seconds, and nothing else.
    assert {type(callback).__name__ for callback in usual} - left == set(IDLE)


def test_an_error_of_the_controller_itself_is_rays_to_decide() -> None:
    policy = policies(RayConfig(), Mailbox[Event](), None, FailureConfig())["failure_policy"]
    assert policy.make_decision(ControllerError(RuntimeError("no room"))).value == "RAISE"


def test_only_a_range_has_a_policy_of_its_own_for_the_number() -> None:
    scaling = ScalingConfig(num_workers=4, resources_per_worker={"CPU": 1})
    link, fixed = Mailbox[Event](), RayConfig(num_workers=4)
    assert "scaling_policy" not in policies(fixed, link, scaling, FailureConfig())
    ranged = policies(RayConfig(num_workers="2-4"), link, scaling, FailureConfig())
    assert ranged["scaling_policy"].size.least == 2


def test_room_is_where_hosts_stay_and_where_our_own_workers_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = {"a": {"CPU": 1.0}, "b": {"CPU": 4.0}, "gone": {"CPU": 8.0}, "full": {}}
    alive = [{"NodeID": name, "Alive": name != "gone"} for name in free]
    monkeypatch.setattr(ray, "nodes", lambda: alive)
    monkeypatch.setattr(ray._private.state, "available_resources_per_node", lambda: free)
    leaving: dict[str, int] = {}
    state = SimpleNamespace(get_draining_nodes=lambda: leaving)
    monkeypatch.setattr(ray._private.state, "state", state)
    occupy([])
    assert [free_room({"CPU": 1}), free_room({"CPU": 2})] == [5, 2]
    occupy(["a", "full", "full", "gone"])
    assert [free_room({"CPU": 1}), free_room({"CPU": 2, "GPU": 0})] == [8, 5]
    leaving["b"] = 0
    assert free_room({"CPU": 1}) == 4
    occupy([])
