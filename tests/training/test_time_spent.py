"""Where the time of a run went, and what is advised."""

from typing import Any

import pytest

from apdist.training.events import Evaluated, SetMeasured, StepDone
from apdist.training.time_spent import time_spent

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
        ({"describe_s": 5.0, "score_s": 4.0, "waited_s": 2.0}, 0.0, "--loss.precision bf16x3"),
        ({"describe_s": 8.0, "stalled_s": 1.0}, 0.0, "--checkpoint.every-steps"),
    ],
)
def test_one_change_is_advised_where_something_else_than_the_network_takes_long(
    figures: dict[str, float], evaluated_s: float, advice: str
) -> None:
    seconds = sum(figures.values()) - figures.get("stalled_s", 0.0)
    history = [
        step(seconds=seconds, **figures),
        Evaluated(step=1, split="test", figures={}, seconds=evaluated_s),
    ]
    assert advice in time_spent(history).advice()


def test_of_nothing_nothing_is_told() -> None:
    spent = time_spent([])
    assert (spent.total_s, str(spent)) == (0.0, "")
