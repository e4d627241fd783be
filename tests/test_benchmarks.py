"""Benchmarks for a GPU run on a CPU, with small batches."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
    checks = ("card", "roofs", "gradients", "loss", "large", "collectives")
    done = gpu("--dry", "--json", str(file), "--only", *checks)
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    figures = [json.loads(line) for line in file.read_text().splitlines()]
    assert {figure["check"] for figure in figures} == set(checks)
    assert not any("failed" in figure for figure in figures)
    assert all(figure["same bits twice"] for figure in figures if figure["check"] == "gradients")
    assert "| n | d | way | ms | products | peak MiB |" in done.stdout


def test_a_check_that_does_not_fit_the_budget_is_left_out_and_said() -> None:
    done = gpu("--dry", "--budget", "1", "--only", "card", "large")
    assert done.returncode == 0
    assert "left out" in done.stdout
