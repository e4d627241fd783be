"""Seconds of stages."""

import time

import pytest
import torch

from apdist.training.step.stopwatch import Stopwatch


def test_laps_are_what_passed_since_the_lap_before(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5.0, 7.0, 7.5])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    watch = Stopwatch(torch.device("cpu"))
    watch.lap()
    watch.lap()
    assert watch.laps() == [2.0, 0.5]


def test_a_gpu_is_waited_for_once_when_the_laps_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Event:
        """The device comes to the events one second after the other."""

        number = 0

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            Event.number += 1
            self.second = Event.number

        def record(self) -> None:
            calls.append(f"record {self.second}")

        def synchronize(self) -> None:
            calls.append(f"wait {self.second}")

        def elapsed_time(self, other: "Event") -> float:
            return 1000.0 * (other.second - self.second)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    watch = Stopwatch(torch.device("cuda:1"))
    watch.lap()
    watch.lap()
    assert watch.laps() == [1.0, 1.0]
    assert calls == ["record 1", "record 2", "record 3", "wait 3"]
