"""Events of the workers, taken out of an actor that is played."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray

from apdist.training.cluster.remote import Inbox
from apdist.training.events import Stopping, Warned
from apdist.training.mailbox import Mailbox

STEP, END = Warned(text="a"), Stopping()


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A mailbox actor whose answers are given when it ``is_ready``, as they are then."""
    box = Mailbox()
    played = SimpleNamespace(
        box=box,
        is_ready=True,
        num_asked=0,
        actor=SimpleNamespace(take=SimpleNamespace(remote=lambda: ask())),
    )

    def ask() -> list[Any]:
        played.num_asked += 1
        return box.take()

    def wait(answers: list[Any], timeout: float | None) -> tuple[list[Any], list[Any]]:
        return (answers, []) if played.is_ready or timeout is None else ([], answers)

    monkeypatch.setattr(ray, "wait", wait)
    monkeypatch.setattr(ray, "get", lambda answer: answer)
    return played


def test_an_answer_that_takes_long_is_waited_for_and_not_asked_for_again(
    cluster: SimpleNamespace,
) -> None:
    take = Inbox(cluster.actor)
    cluster.box.post(STEP)
    cluster.is_ready = False
    assert [take(last=False), take(last=False)] == [[], []]
    cluster.is_ready = True
    assert take(last=False) == [STEP]
    assert cluster.num_asked == 1
    cluster.box.post(END)
    assert take(last=False) == [END]


def test_the_last_look_misses_nothing(cluster: SimpleNamespace) -> None:
    take = Inbox(cluster.actor)
    cluster.box.post(STEP)
    cluster.is_ready = False
    assert take(last=False) == []
    cluster.box.post(END)
    assert take(last=True) == [STEP, END]
