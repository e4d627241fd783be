"""How busy a machine is."""

import threading
from collections.abc import Sequence

import pytest

from apdist.training import machine
from apdist.training.events import Event, MachineSampled, WorkersFailed


class Heard:
    """A link that says when it has heard enough."""

    def __init__(self, enough: int) -> None:
        self.enough, self.events, self.told = enough, [], threading.Event()
        self.events: list[Event]

    def post(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) == self.enough:
            self.told.set()

    def stop_requested(self) -> bool:
        return False

    def failures(self) -> Sequence[WorkersFailed]:
        return ()

    def room(self) -> int:
        return 0


def is_watched() -> bool:
    return any(thread.name == "machine" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FIRST_S", 0.01)
    monkeypatch.setattr(machine, "EVERY_S", 0.01)


def test_a_machine_is_watched_while_the_block_runs_and_no_longer() -> None:
    heard = Heard(3)
    with machine.sampled(heard):
        assert is_watched()
        assert heard.told.wait(20)
    assert not is_watched()
    event = heard.events[0]
    assert isinstance(event, MachineSampled)
    assert 0 < event.figures["system_memory_usage_percentage"] < 100
    assert 0 < event.figures["disk_usage_percentage"] <= 100
    assert event.figures["network_receive_megabytes"] >= 0


def test_a_block_that_ends_at_once_does_not_wait_for_a_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "FIRST_S", 3600.0)
    heard = Heard(1)
    with pytest.raises(KeyError), machine.sampled(heard):
        raise KeyError
    assert not heard.events
    assert not is_watched()


def test_a_driver_that_is_gone_does_not_break_a_training() -> None:
    class Gone(Heard):
        def post(self, event: Event) -> None:
            super().post(event)
            raise ConnectionError("the mailbox is gone")

    heard = Gone(1)
    with machine.sampled(heard):
        assert heard.told.wait(20)
    assert len(heard.events) == 1
