"""Benchmarks for a GPU run on a CPU, with small batches."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT


def gpu(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, "benchmarks/gpu.py", *arguments],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=100,
        check=False,
        capture_output=True,
        text=True,
    )


def test_every_check_for_a_gpu_is_sound_on_a_cpu(tmp_path: Path) -> None:
    file = tmp_path / "figures.jsonl"
    checks = ("card", "roofs", "gradients", "loss", "idle", "large", "collectives")
    checks += ("feed", "optimizers", "ranking", "search")
    done = gpu("--dry", "--json", str(file), "--only", *checks)
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    figures = [json.loads(line) for line in file.read_text().splitlines()]
    assert {figure["check"] for figure in figures} == set(checks)
    assert not any("failed" in figure for figure in figures)
    assert all(figure["same bits twice"] for figure in figures if figure["check"] == "gradients")
    assert "| n | d | way | ms | products | peak MiB |" in done.stdout


def test_a_wait_of_a_gpu_is_between_what_ends_last_and_what_begins_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = importlib.import_module("gpu_loss")
    launches = [
        *(module.Launch("long", 0.0, 5.0), module.Launch("beside it", 1.0, 2.0)),
        *(module.Launch("product", 5.5, 6.0), module.Launch("at once", 6.0, 7.0)),
        *(module.Launch("product", 7.25, 8.0), module.Launch("at once", 8.0, 9.0)),
        module.Launch("product", 9.25, 10.0),
    ]
    assert module.waits_between(launches) == {"long > product": 0.5, "at once > product": 0.5}


def test_a_check_that_does_not_fit_the_budget_is_left_out_and_said() -> None:
    done = gpu("--dry", "--budget", "1", "--only", "card", "large")
    assert done.returncode == 0
    assert "left out" in done.stdout
