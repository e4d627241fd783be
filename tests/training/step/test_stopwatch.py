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
    assert watch.laps == [2.0, 0.5]


def test_a_gpu_has_done_its_work_before_the_watch_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(str(device)))
    monkeypatch.setattr(time, "perf_counter", lambda: float(calls.append("read") or len(calls)))
    Stopwatch(torch.device("cuda:1")).lap()
    assert calls == ["cuda:1", "read"] * 2
