"""What a worker keeps of a run."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from apdist.training.events import Event, Restarted, StepDone, WorkersFailed, now_ms
from apdist.training.mailbox import Mailbox
from apdist.training.regrouping import HOUR_MS
from apdist.training.run_folder.keeper import CheckpointOrigin, Keeper, restarts
from apdist.training.run_folder.lease import Lease, LeaseLost
from apdist.training.run_folder.runs import whole_history
from apdist.training.step.collectives import Workers
from tests.workers import on_workers

ORIGIN = CheckpointOrigin("a", "b")
CPU = torch.device("cpu")


def learner() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(2, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def kept(run: Path, until: int, lease: Lease | None = None) -> Keeper:
    """Steps 1 to ``until``, with a checkpoint at the last."""
    keeper = Keeper(str(run), lease, Mailbox[Event](), Workers(), keep=2)
    learned = learner()
    start = keeper.restore(*learned, ORIGIN, CPU)
    with keeper.written_at_the_end():
        for step in range(start + 1, until + 1):
            keeper.post(StepDone(step=step, figures={}))
        keeper.save(until, *learned, ORIGIN)
    return keeper


def test_a_worker_goes_on_from_the_checkpoint_with_its_history(tmp_path: Path) -> None:
    before = now_ms()
    kept(tmp_path, 3)
    keeper = kept(tmp_path, 5)
    assert [event.step for event in keeper.history] == [1, 2, 3]
    history = whole_history(str(tmp_path))
    assert [event.step for event in history] == [1, 2, 3, 4, 5]
    assert before <= history[0].time_ms <= now_ms()


def test_after_the_lease_is_lost_nothing_is_committed(tmp_path: Path) -> None:
    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / "00000001.json").write_text("{}")
    kept(tmp_path, 2, Lease(str(tmp_path), 1))
    (tmp_path / "writer" / "00000002.json").write_text("{}")
    with pytest.raises(LeaseLost, match="was taken over by another process"):
        kept(tmp_path, 4, Lease(str(tmp_path), 1))
    assert [event.step for event in whole_history(str(tmp_path))] == [1, 2]


def test_what_ended_the_loop_is_raised_and_not_what_came_of_it(tmp_path: Path) -> None:
    keeper = Keeper(str(tmp_path), None, Mailbox[Event](), Workers(), keep=2)
    learned = learner()
    keeper.restore(*learned, ORIGIN, CPU)
    keeper.lease = Lease(str(tmp_path), 0)
    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / "00000002.json").write_text("{}")

    def loop() -> None:
        with keeper.written_at_the_end():
            keeper.save(1, *learned, ORIGIN)
            raise RuntimeError("first")

    with pytest.raises(RuntimeError, match="first"):
        loop()


class Slow(Lease):
    """Takes a while to say that nobody took the run."""

    def refuse_if_lost(self) -> None:
        time.sleep(0.3)


def saved(keeper: Keeper, steps: int = 1) -> None:
    """Begin to write a checkpoint after these steps."""
    learned = learner()
    keeper.restore(*learned, ORIGIN, CPU)
    for step in range(1, steps + 1):
        keeper.post(StepDone(step=step, figures={}))
    keeper.save(steps, *learned, ORIGIN)


def test_a_loop_that_fails_leaves_the_checkpoint_that_it_had_begun(tmp_path: Path) -> None:
    keeper = Keeper(str(tmp_path), Slow(str(tmp_path), 1), Mailbox[Event](), Workers(), keep=2)

    def loop() -> None:
        with keeper.written_at_the_end():
            saved(keeper)
            raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        loop()
    assert [event.step for event in whole_history(str(tmp_path))] == [1]


def test_workers_that_settle_know_whether_their_checkpoint_is_written(tmp_path: Path) -> None:
    keeper = Keeper(str(tmp_path), Slow(str(tmp_path), 1), Mailbox[Event](), Workers(), keep=2)
    saved(keeper)
    keeper.settle(CPU)
    assert [event.step for event in whole_history(str(tmp_path))] == [1]
    (tmp_path / "writer").mkdir()
    (tmp_path / "writer" / "00000002.json").write_text("{}")
    lost = Keeper(str(tmp_path), Lease(str(tmp_path), 1), Mailbox[Event](), Workers(), keep=2)
    saved(lost, steps=2)
    with pytest.raises(OSError, match="LeaseLost: .* taken over by another process"):
        lost.settle(CPU)


def test_what_follows_a_step_that_was_not_saved_is_not_stored_with_the_step_before(
    tmp_path: Path,
) -> None:
    keeper = Keeper(str(tmp_path), None, Mailbox[Event](), Workers(), keep=2)
    saved(keeper, steps=2)
    keeper.post(StepDone(step=3, figures={}))
    keeper.save_history(3)
    keeper.settle(CPU)
    assert [event.step for event in whole_history(str(tmp_path))] == [1, 2]
    assert restored(str(tmp_path)) == "2"


def restored(run: str) -> str:
    keeper = Keeper(run, None, Mailbox[Event](), Workers(), keep=2)
    try:
        return str(keeper.restore(*learner(), ORIGIN, CPU))
    except ValueError as error:
        return str(error)


def test_all_workers_take_the_checkpoint_that_worker_0_takes_or_none(tmp_path: Path) -> None:
    kept(tmp_path, 3)
    assert on_workers(2, restored, str(tmp_path)) == ["3", "3"]
    (state,) = tmp_path.glob("checkpoints/*/state-*.pt")
    state.write_bytes(b"")
    refused = on_workers(2, restored, str(tmp_path))
    assert refused[0] == refused[1]
    assert "no checkpoint of" in refused[0]


def failure(time_ms: int, ranks: tuple[int, ...] = (1,)) -> WorkersFailed:
    return WorkersFailed(ranks=list(ranks), cause="it stopped", time_ms=time_ms, hosts=["here"])


def test_a_failure_that_the_history_does_not_have_becomes_a_restart() -> None:
    now = now_ms()
    history = [StepDone(step=5, figures={}, time_ms=now - 9000)]
    (event,) = restarts([failure(now - 4000)], history, step=5, per_hour=3, num_workers=2)
    assert event.cause == "worker 1 on here: it stopped"
    assert event.seconds_lost == pytest.approx(9, abs=0.5)
    assert (event.step, event.restarts_left) == (5, 2)
    assert (
        restarts([failure(now - 4000)], [*history, event], step=5, per_hour=3, num_workers=2) == []
    )


def test_two_failures_before_a_checkpoint_share_what_is_lost() -> None:
    now = now_ms()
    history = [StepDone(step=5, figures={}, time_ms=now - 9000)]
    found = restarts([failure(now - 6000), failure(now - 2000)], history, 5, 1, 2)
    assert [round(event.seconds_lost) for event in found] == [7, 2]
    assert [event.restarts_left for event in found] == [0, 0]


def test_a_restart_tells_how_many_workers_there_are_and_were() -> None:
    now = now_ms()
    room = failure(now - 2000, ranks=())
    room = replace(room, is_planned=True, num_workers=2)
    history = [StepDone(step=5, figures={}, time_ms=now - 9000)]
    lost = replace(failure(now - 6000), num_workers=3)
    found = restarts([lost, room], history, 5, per_hour=3, num_workers=4)
    assert [(event.num_before, event.num_workers) for event in found] == [(3, 2), (2, 4)]
    assert [event.restarts_left for event in found] == [2, 2]
    assert [round(event.seconds_lost) for event in found] == [7, 2]  # starting anew takes time


def test_failures_of_another_hour_do_not_count() -> None:
    now = now_ms()
    found = restarts([failure(now - HOUR_MS - 9000), failure(now - 1000)], [], 0, 1, 2)
    assert [event.restarts_left for event in found] == [0, 0]


def test_a_stop_by_a_person_costs_no_attempt_and_no_time_in_between() -> None:
    now = now_ms()
    history = [StepDone(step=5, figures={}, time_ms=now - 900_000)]
    stopped = failure(now - 897_000, ranks=())
    found = restarts([stopped, failure(now - 1000)], history, 5, 3, 2)
    assert [event.restarts_left for event in found] == [3, 2]
    assert found[0].seconds_lost == pytest.approx(3)
    assert all(isinstance(event, Restarted) for event in found)
