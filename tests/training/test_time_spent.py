"""Where the time of a run went, and what is advised."""

import re
from typing import Any

import pytest

from apdist.training.events import Evaluated, SetMeasured, StepDone
from apdist.training.time_spent import time_spent
from tests.training.run_folder.test_runs import started

SET: dict[str, Any] = {"name": "a", "protocol": "labelled", "data": "x", "num_queries": 1}
SET |= {"figures": {}}


def step(**figures: float) -> StepDone:
    return StepDone(step=1, figures=figures)


def test_the_time_of_steps_and_evaluations_is_told_by_its_parts_the_largest_first() -> None:
    history = [
        step(
            seconds=4.0, waited_s=0.5, describe_s=1.0, backprop_s=1.5, exchange_s=0.25, score_s=0.25
        ),
        step(seconds=4.0, waited_s=0.5, describe_s=2.5, score_s=0.25, stalled_s=1.0),
        Evaluated(step=2, split="test", figures={}, seconds=0.75),
        SetMeasured(step=2, **SET, seconds=0.25),
        step(host_peak_mib=512.0, device_peak_mib=2048.0),
        step(host_peak_mib=1024.0),
    ]
    spent = time_spent(history)
    assert spent.total_s == 10.0  # 8 of steps, 1 of a checkpoint, 1 of an evaluation
    assert spent.seconds == {
        "network": 5.0,
        "the rest of the steps": 1.25,
        "waiting for images": 1.0,
        "checkpoints": 1.0,
        "evaluation": 1.0,
        "loss": 0.5,
        "exchange": 0.25,
    }
    assert next(iter(spent.seconds)) == "network"
    assert str(spent) == (
        "network 50%, the rest of the steps 12%, waiting for images 10%, checkpoints 10%, "
        "evaluation 10%, loss 5%, exchange 2%; most memory of worker 0: GPU 2.0 GiB, host 1.0 GiB"
    )


@pytest.mark.parametrize(
    ("figures", "evaluated_s", "advice"),
    [
        ({"describe_s": 8.0, "waited_s": 1.0}, 1.0, "as it should be"),
        ({"describe_s": 7.0, "waited_s": 2.0}, 1.0, "--data.loader-processes"),
        ({"describe_s": 6.0, "waited_s": 2.0}, 4.0, "--evaluation.every-steps"),
        ({"describe_s": 6.0, "exchange_s": 4.0}, 0.0, "larger batches"),
        ({"describe_s": 5.0, "score_s": 4.0, "waited_s": 2.0}, 0.0, "a smaller --model.dim$"),
        (
            {"describe_s": 5.0, "score_s": 4.0, "device_peak_mib": 9.0},
            0.0,
            "or --loss.precision bf",
        ),
        ({"describe_s": 8.0, "stalled_s": 1.0}, 0.0, "--checkpoint.every-steps"),
    ],
)
def test_one_change_is_advised_where_something_else_than_the_network_takes_long(
    figures: dict[str, float], evaluated_s: float, advice: str
) -> None:
    seconds = sum(s for name, s in figures.items() if name.endswith("_s") and name != "stalled_s")
    history = [
        step(seconds=seconds, **figures),
        Evaluated(step=1, split="test", figures={}, seconds=evaluated_s),
    ]
    assert re.search(advice, time_spent(history).advice())


def test_what_only_the_first_steps_of_workers_took_is_no_share_of_the_others() -> None:
    def usual() -> StepDone:
        return step(seconds=1.0, describe_s=0.75, score_s=0.25)

    compiling = step(seconds=17.0, describe_s=0.75, score_s=16.25)
    history = [started(0), compiling, usual(), usual(), started(3), compiling, usual()]
    spent = time_spent(history)
    assert spent.seconds["loss"] == 5 * 0.25
    assert spent.seconds["network"] == 5 * 0.75
    assert spent.seconds["the beginning"] == 2 * 16
    assert spent.total_s == 37
    assert "as it should be" in spent.advice()
    assert "the beginning" not in time_spent(history[:4]).seconds  # of so few nobody can tell


def test_of_nothing_nothing_is_told() -> None:
    spent = time_spent([])
    assert (spent.total_s, str(spent)) == (0.0, "")
