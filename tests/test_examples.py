"""Examples and the code in the manual for Python: they run as they stand."""

import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from apdist.loss import AveragePrecisionLoss
from apdist.training import StepOptions, global_step
from tests.places import ROOT

SNIPPETS = [
    (page, code)
    for page in ("python.md", "search.md")
    for code in re.findall(r"```python\n(.+?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
]


def run(*command: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        timeout=100,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(example: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What an example prints that needs no process of its own."""
    runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    return capsys.readouterr().out


def test_the_loss_in_a_loop_learns_to_tell_unseen_classes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = run_here("loss_in_a_loop.py", capsys)
    before, after = (float(text) for text in re.findall(r"mAP (\d\.\d+)", printed))
    assert before < 0.2
    assert after > 0.9


def test_the_step_under_torchrun_starts_as_that_of_one_process() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "step_under_torchrun.py"))
    torch.manual_seed(0)
    network = example["Network"]()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    options = StepOptions(loss=AveragePrecisionLoss(), chunk_size=64)
    expected = []
    for step in range(3):
        images, labels = example["batch"](step)
        optimizer.zero_grad()
        expected.append(global_step(network, images, labels, options, step=step).loss)
        optimizer.step()
    printed = run(
        *("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"),
        "examples/step_under_torchrun.py",
    )
    losses = [float(text) for text in re.findall(r"loss (\d\.\d+)", printed)]
    assert losses[:3] == pytest.approx(expected, abs=1e-4)
    assert losses[-1] < 0.2 * losses[0]


def test_pictures_of_classes_never_seen_are_found_after_seconds_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["search_your_pictures.py"])
    printed = run_here("search_your_pictures.py", capsys)
    assert "351 pictures of 39 classes" in printed
    precision = re.search(r"unseen classes: mAP (\d\.\d+)", printed)
    assert precision
    assert float(precision[1]) > 0.6
    query = re.search(r"nearest to .*/(.+/.+\.png):", printed)
    assert query
    assert printed.splitlines()[-6] == f"  1.000  {query[1]}"


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_code_in_the_manual_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page, code = SNIPPETS[number]
    exec(compile(code, f"docs/{page}, snippet {number + 1}", "exec"), {})


def test_the_manual_has_code() -> None:
    assert len(SNIPPETS) == 4
