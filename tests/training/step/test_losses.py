"""Every kind of loss in the step: any W and chunk size have the gradients of one graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apdist.loss.baselines import Calibration, Contrastive
from apdist.loss.batch_loss import BatchLoss, parameters_of
from apdist.loss.centres import ArcFace, CosFace, NormalisedSoftmax, ProxyAnchor
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.matryoshka import Matryoshka
from apdist.loss.weighted import WeightedSum
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import BatchError
from apdist.training.step.randomness import chunk_seed, seeded
from apdist.training.step.sharding import shard_parameters
from tests.toy import CHUNK_SIZES, SEED, STEP, Toy, batch, error_of, gradients, run_step
from tests.workers import on_workers

CLASSES = torch.tensor([99, 50, 6, 5, 4, 3, 2, 1, 0])
"""Of the batch, and one that is not in it."""


def with_centres(
    kind: Callable[..., nn.Module], size: int = 6, **options: Any
) -> Callable[[], BatchLoss]:
    def build() -> BatchLoss:
        torch.manual_seed(5)
        return kind(CLASSES, size, **options).double()

    return build


LOSSES: dict[str, Callable[[], BatchLoss]] = {
    "contrastive": Contrastive,
    "calibration": Calibration,
    "arcface": with_centres(ArcFace, scale=8.0),
    "cosface": with_centres(CosFace, scale=8.0),
    "proxy_anchor": with_centres(ProxyAnchor, alpha=8.0),
    "normalised_softmax": with_centres(NormalisedSoftmax),
    "ap and calibration": lambda: WeightedSum(
        [(AveragePrecisionLoss(), 1.0), (Calibration(), 0.1)]
    ),
    "arcface and ap": lambda: WeightedSum(
        [(with_centres(ArcFace, scale=8.0)(), 0.2), (AveragePrecisionLoss(), 3.0)]
    ),
    "matryoshka": lambda: Matryoshka(
        WeightedSum([(AveragePrecisionLoss(), 1.0), (Calibration(), 0.1)]),
        {2: AveragePrecisionLoss(), 5: with_centres(ArcFace, size=5, scale=8.0)()},
    ),
}


@dataclass
class Found:
    """What a step left on one worker."""

    loss: float
    network: dict[str, Tensor]
    centres: list[Tensor]


def of_loss(loss: BatchLoss) -> list[Tensor]:
    found = [parameter.grad for parameter in parameters_of(loss)]
    assert all(gradient is not None for gradient in found)
    return found  # type: ignore[return-value]


def one_graph(name: str, chunk_size: int) -> Found:
    model, loss = Toy(), LOSSES[name]()
    images, labels, _ = batch()
    parts = []
    for number, chunk in enumerate(images.split(chunk_size)):
        with seeded(chunk_seed(SEED, STEP, number), images.device):
            parts.append(model(chunk))
    value = loss(torch.cat(parts), labels)
    value.backward()
    return Found(value.item(), gradients(model), of_loss(loss))


def steps(sharded: bool) -> dict[tuple[str, int], Found]:
    found = {}
    for name, build in LOSSES.items():
        for size in CHUNK_SIZES[2:3] if sharded else CHUNK_SIZES:
            model, loss = Toy(), build()
            if sharded:
                shard_parameters(model, torch.device("cpu"), Workers().size)
            answer = run_step(model, size, loss=loss, ignore=None)
            found[name, size] = Found(answer.result.loss, answer.gradients, of_loss(loss))
    return found


@pytest.mark.parametrize(
    ("num_workers", "sharded"), [(1, False), (2, False), (2, True), (3, False)]
)
def test_a_step_with_any_loss_is_one_graph_over_the_batch(num_workers: int, sharded: bool) -> None:
    answers = on_workers(num_workers, steps, sharded)
    for (name, size), first in answers[0].items():
        expected = one_graph(name, size)
        for answer in (worker[name, size] for worker in answers):
            assert answer.loss == pytest.approx(expected.loss, rel=1e-11)
            assert error_of(answer.network, expected.network) < 1e-9, (name, size)
            for own, other, same in zip(
                answer.centres, expected.centres, first.centres, strict=True
            ):
                torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)
                assert torch.equal(own, same), "parameters would drift apart"
        learn = ("arcface", "cosface", "proxy_anchor", "normalised_softmax", "arcface and ap")
        assert len(expected.centres) == (name in (*learn, "matryoshka"))


def apart() -> Tensor:
    """The gradient of centres whose batch looks a little different to each worker."""
    right = Workers.fill_rows

    def fill(self: Workers, rows: Tensor, sizes: Any) -> None:
        right(self, rows, sizes)
        if rows.is_floating_point():
            rows.mul_(1 + 1e-12 * self.rank)

    Workers.fill_rows = fill  # type: ignore[method-assign]
    try:
        loss = LOSSES["arcface"]()
        run_step(Toy(), 6, loss=loss, ignore=None)
        return of_loss(loss)[0]
    finally:
        Workers.fill_rows = right  # type: ignore[method-assign]


def test_gradients_of_centres_are_the_same_bits_where_the_workers_sums_differ() -> None:
    first, second = on_workers(2, apart)
    assert torch.equal(first, second)


def test_gradients_of_centres_add_up_over_steps() -> None:
    loss = LOSSES["arcface"]()
    run_step(Toy(), 6, loss=loss, ignore=None)
    once = of_loss(loss)[0].clone()
    run_step(Toy(), 6, loss=loss, ignore=None)
    torch.testing.assert_close(of_loss(loss)[0], 2 * once)


def refused_on(rank: int, order: int) -> str:
    """What a worker says where the other one's calibration, before or after AP, fails."""

    def fails(descriptors: Tensor, labels: Tensor) -> Tensor:
        del labels
        if Workers().rank == rank:
            raise ValueError("not today")
        return descriptors.sum()

    terms: list[tuple[BatchLoss, float]] = [(fails, 1.0), (AveragePrecisionLoss(), 1.0)]
    with pytest.raises(BatchError) as refused:
        run_step(Toy(), 6, loss=WeightedSum(terms[::order]), ignore=None)
    return str(refused.value)


@pytest.mark.parametrize("order", [1, -1])
def test_a_term_that_fails_on_one_worker_is_raised_on_all(order: int) -> None:
    first, second = on_workers(2, refused_on, 1, order)
    assert first == second
    assert "worker 1 of 2 failed to score the batch" in first
    assert "not today" in first
