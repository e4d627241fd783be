"""What fails on one worker is raised on all."""

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.loss import gradient
from apdist.loss.baselines import Contrastive
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.matryoshka import Matryoshka
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import BatchError, ShortageError, WorkerError
from apdist.training.step.options import StepOptions
from apdist.training.step.step import global_step
from tests.toy import (
    SEED,
    SIZE,
    STEP,
    Toy,
    batch,
    gradients,
    run_step,
)
from tests.workers import on_workers


class Failing(Toy):
    """Fails on one worker as it is told."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how if Workers().rank == 1 else ""

    def forward(self, images: Tensor) -> Tensor:
        if self.how == "raise" or (
            self.how == "raise in the second pass" and torch.is_grad_enabled()
        ):
            raise KeyError("lost")
        if self.how == "nan in the second pass" and torch.is_grad_enabled():
            return super().forward(images) * torch.nan
        if self.how == "rows":
            return super().forward(images)[1:]
        if self.how == "width":
            return super().forward(images)[:, :4]
        if self.how == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory")
        descriptors = super().forward(images)
        if self.how == "nan":
            descriptors = descriptors.clone()
            descriptors[1, 1] = torch.nan
        if self.how == "random numbers of its own":
            descriptors = F.normalize(descriptors + 0.1 * (1 + torch.is_grad_enabled()), dim=1)
        return descriptors


FAILURES = {
    "raise": (WorkerError, "worker 1 of 2 failed to describe its images of step 7: KeyError"),
    "raise in the second pass": (
        WorkerError,
        "worker 1 of 2 failed in the backward pass of step 7",
    ),
    "memory": (ShortageError, "chunk_size 6 does not fit: try 1"),
    "nan": (BatchError, "worker 1 of 2 .*3 descriptors are NaN.* its image 1; lower the learning"),
    "random numbers of its own": (BatchError, "other descriptors than the first"),
    "nan in the second pass": (BatchError, "other descriptors than the first"),
    "rows": (BatchError, "must map 6 images to 6 descriptors"),
    "width": (BatchError, r"differ in width or precision \(widths \[4, 6\]\)"),
    "loss": (WorkerError, "worker 1 of 2 failed to score the batch of step 7: KeyError"),
    "first pass of the loss": (ShortageError, "failed to score the batch of step 7: out of memory"),
    "second pass of the loss": (
        ShortageError,
        "failed to score the batch of step 7: out of memory",
    ),
    **{
        f"{which}_pass {call} of 3 parts": (ShortageError, "failed to score the batch of step 7")
        for which in ("first", "second")
        for call in (1, 2, 3)
    },
    "labels": (BatchError, "worker 1 of 2 .*labels must be 14 integers, one per image"),
}


def failing_loss(descriptors: Tensor, labels: Tensor) -> Tensor:
    if Workers().rank == 1:
        raise KeyError("lost")
    return Contrastive()(descriptors, labels)


def short_of_memory(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


def run_one_that_fails(name: str) -> None:
    if name == "loss":
        run_step(Toy(), 6, loss=failing_loss, ignore=None)
    elif name == "labels":
        images, labels, _ = batch()
        rows = own_rows(SIZE, 6, Workers().rank, 2)
        labels = labels[rows][Workers().rank :]
        global_step(
            Toy(), images[rows], labels, StepOptions(loss=Contrastive(), chunk_size=6), step=STEP
        )
    elif name.endswith("parts"):
        run_short_of_memory_at(*name.split()[:2])
    elif name.endswith("pass of the loss"):
        attribute = "first_pass" if name.startswith("first") else "second_pass"
        saved = getattr(gradient, attribute)
        if Workers().rank == 1:
            setattr(gradient, attribute, short_of_memory)
        try:
            run_step(Toy(), 6)
        finally:
            setattr(gradient, attribute, saved)
    else:
        run_step(Failing(name), 6)


def run_short_of_memory_at(attribute: str, call: str) -> None:
    """Score whole descriptors and two parts; on one worker the n-th call has no memory."""
    saved, calls = getattr(gradient, attribute), []

    def work(*args: Any) -> Any:
        calls.append(args)
        if Workers().rank == 1 and len(calls) == int(call):
            short_of_memory()
        return saved(*args)

    setattr(gradient, attribute, work)
    try:
        listwise = AveragePrecisionLoss()
        run_step(Toy(), 6, loss=Matryoshka(listwise, {2: listwise, 4: listwise}))
    finally:
        setattr(gradient, attribute, saved)


def run_failing(names: list[str]) -> list[str]:
    told = []
    for name in names:
        try:
            run_one_that_fails(name)
            told.append("nothing")
        except (WorkerError, BatchError) as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


def test_what_fails_on_one_worker_is_raised_on_all() -> None:
    first, second = on_workers(2, run_failing, list(FAILURES))
    assert first == second
    for (kind, text), told in zip(FAILURES.values(), first, strict=True):
        assert told.startswith(kind.__name__)
        assert re.search(text, told), told


def run_odd_batches() -> list[float]:
    """A worker without images; a batch without positives; a worker whose images have none."""
    images, labels, _ = batch()
    rank = Workers().rank
    found = []
    for own, names in (
        (slice(0, 20 * (1 - rank)), labels),
        (slice(13 * rank, 13 * rank + 13), torch.arange(SIZE)),
        (
            slice(13 * rank, 13 * rank + 13),
            torch.where(torch.arange(SIZE) < 13, labels, 100 + torch.arange(SIZE)),
        ),
    ):
        model = Toy()
        result = global_step(
            model,
            images[own],
            names[own],
            StepOptions(loss=AveragePrecisionLoss(), chunk_size=13, seed=SEED),
            step=STEP,
        )
        total = sum(float(g.abs().sum()) for g in gradients(model).values())
        assert total == total  # no NaN
        found += [result.loss, total]
    return found


def test_odd_batches_end_alike_on_all_workers() -> None:
    first, second = on_workers(2, run_odd_batches)
    assert first == pytest.approx(second)
    assert first[2:4] == [0, 0]
    assert min(first[0], first[4]) > 0


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, len, "model must be a Module, got builtin_function_or_method; pass the network"),
        (1, [0.5], "images must be a Tensor, got list; use torch.as_tensor"),
        (2, [1], "labels must be a Tensor, got list; use torch.as_tensor"),
        (3, {}, r"options must be a StepOptions, got dict; use StepOptions\(loss="),
    ],
)
def test_what_is_of_another_kind_is_refused_at_once(place: int, value: Any, message: str) -> None:
    options = StepOptions(loss=Contrastive(), chunk_size=1)
    given: list[Any] = [torch.nn.Linear(1, 1), torch.zeros(1, 1), torch.zeros(1).long(), options]
    given[place] = value
    with pytest.raises(ValueError, match=message):
        global_step(*given, step=0)
