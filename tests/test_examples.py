"""Examples and the code in the manual for Python: they run as they stand."""

import os
import re
import subprocess
import sys

import pytest

from tests.places import ROOT

SNIPPETS = re.findall(r"```python\n(.+?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)


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


def test_the_loss_in_a_loop_learns_to_tell_unseen_classes() -> None:
    printed = run("examples/loss_in_a_loop.py")
    before, after = (float(text) for text in re.findall(r"mAP (\d\.\d+)", printed))
    assert before < 0.2
    assert after > 0.9


def test_the_step_under_torchrun_starts_alike_for_any_number_of_processes() -> None:
    printed = [
        run(
            *("-m", "torch.distributed.run", f"--nproc-per-node={num_workers}"),
            *("--master-port=0", "examples/step_under_torchrun.py"),
        )
        for num_workers in (1, 2)
    ]
    losses = [[float(text) for text in re.findall(r"loss (\d\.\d+)", one)] for one in printed]
    assert losses[0][:3] == pytest.approx(losses[1][:3], abs=1e-4)
    assert losses[0][-1] < 0.2 * losses[0][0]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_code_in_the_manual_runs(number: int) -> None:
    exec(compile(SNIPPETS[number], f"docs/python.md, snippet {number + 1}", "exec"), {})


def test_the_manual_has_code() -> None:
    assert len(SNIPPETS) == 2
