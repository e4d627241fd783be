"""A worker that fails goes on taking part until all raise."""

import torch

from apdist.loss import gradient
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import BatchError
from apdist.training.step.sharding import shard_parameters
from tests.toy import Toy, run_step
from tests.training.step.test_failures import short_of_memory
from tests.workers import on_workers


def run_short_of_memory() -> list[str]:
    told = []
    for name in ("first_pass", "second_pass"):
        model, saved = Toy(), getattr(gradient, name)
        shard_parameters(model, torch.device("cpu"), 2)
        if Workers().rank == 1:
            setattr(gradient, name, short_of_memory)
        try:
            run_step(model, 6)
        except BatchError as error:
            told.append(str(error))
        finally:
            setattr(gradient, name, saved)
    return told


def test_sharded_parameters_do_not_wait_for_who_could_not_score() -> None:
    first, second = on_workers(2, run_short_of_memory)
    assert first == second
    assert len(first) == 2
    assert all("worker 1 of 2 failed to score the batch" in text for text in first)
