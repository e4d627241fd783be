"""The figures of a run as Ray's metrics; Ray's own classes are played, and once asked for."""

from __future__ import annotations

import logging
import tempfile
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.util.metrics

from apdist.config import RayConfig
from apdist.training.cluster.joining import ray_cluster
from apdist.training.cluster.metrics import RayMetrics
from apdist.training.events import Evaluated, Restarted, StepDone, Stopping

STEP = StepDone(step=7, figures={"loss": 0.25, "images_per_s": 500.0})
EVALUATION = Evaluated(step=7, split="test", figures={"map": 0.5}, seconds=1.0)
RESTART = Restarted(
    step=5,
    cause="killed",
    happened_ms=1,
    seconds_lost=2.0,
    restarts_left=1,
    num_workers=2,
    num_before=2,
)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[Any, ...], float]:
    """What was set, by name and tags; a Ray seems to be there."""
    values: dict[tuple[Any, ...], float] = {}

    def metric(name: str, description: str, tag_keys: tuple[str, ...]) -> SimpleNamespace:
        def key(tags: dict[str, str]) -> tuple[str, ...]:
            return (name, *tags.values())

        def put(value: float, tags: dict[str, str]) -> None:
            assert tuple(tags) == tag_keys  # Ray refuses others
            values[key(tags)] = value

        def add(tags: dict[str, str]) -> None:
            put(values.get(key(tags), 0) + 1, tags)

        assert description
        return SimpleNamespace(set=put, inc=add)

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    for kind in ("Gauge", "Counter"):
        monkeypatch.setattr(ray.util.metrics, kind, metric)
    return values


def test_the_newest_figures_are_set_with_the_name_of_the_run(
    played: dict[tuple[Any, ...], float],
) -> None:
    for event in (STEP, EVALUATION, RESTART, RESTART, Stopping()):
        RayMetrics("a run")(event)
    assert played == {
        ("apdist_step", "a run"): 7,
        ("apdist_loss", "a run"): 0.25,
        ("apdist_images_per_second", "a run"): 500,
        ("apdist_map", "a run", "test"): 0.5,
        ("apdist_restarts", "a run"): 2,
    }


def test_a_failure_costs_one_warning_and_no_training(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the raylet is gone")

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray.util.metrics, "Gauge", fail)
    metrics = RayMetrics("a run")
    with caplog.at_level(logging.WARNING):
        metrics(STEP)
        metrics(EVALUATION)
    assert len(caplog.messages) == 1
    assert "the raylet is gone" in caplog.text


def test_without_ray_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util.metrics, "Gauge", None)
    RayMetrics("a run")(STEP)


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore")
def test_prometheus_finds_them_where_it_asks_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "300")
    with tempfile.TemporaryDirectory(prefix="ray") as sessions:  # a short name
        monkeypatch.setenv("RAY_TMPDIR", sessions)
        with ray_cluster(RayConfig(num_workers=1), str(tmp_path / "ray.log")):
            address = f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics"
            metrics, deadline = RayMetrics("a run"), time.monotonic() + 60
            for event in (STEP, EVALUATION, RESTART):
                metrics(event)
            while len(found := figures_at(address)) < 5 and time.monotonic() < deadline:
                time.sleep(0.3)
    assert found == {
        "ray_apdist_step": 7,
        "ray_apdist_loss": 0.25,
        "ray_apdist_images_per_second": 500,
        "ray_apdist_map": 0.5,
        "ray_apdist_restarts_total": 1,
    }


def figures_at(address: str) -> dict[str, float]:
    """What a node tells of the run, by name."""
    with urllib.request.urlopen(address, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    own = [line for line in lines if line.startswith("ray_apdist") and 'run="a run"' in line]
    return {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in own}
