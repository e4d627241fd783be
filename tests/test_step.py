"""The global step against one autograd graph over the whole batch, in float64."""

import copy
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.loss.average_precision import AveragePrecisionLoss, average_precision_loss
from apdist.training.collectives import rank_and_size
from apdist.training.randomness import chunk_seed, seeded
from apdist.training.step import StepResult, global_step, own_rows
from tests.workers import on_workers

SIZE = 23
SEED, STEP = 3, 7


class Toy(nn.Module):
    """Dropout, batch norm, a frozen and an unused parameter: all that can go wrong."""

    def __init__(self, *, batch_norm: str, dropout: float = 0.3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(3 * 4 * 4, 12)
        self.norm = nn.BatchNorm1d(12)
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Linear(12, 6)
        self.frozen = nn.Parameter(torch.ones(6), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))
        self.batch_norm = batch_norm
        self.double()
        self.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]

    def train(self, mode: bool = True) -> "Toy":
        super().train(mode)
        if self.batch_norm == "frozen":
            self.norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.norm(self.first(images.flatten(1)))))
        return F.normalize(self.last(x) * self.frozen, dim=1)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(SIZE, 3, 4, 4, dtype=torch.float64, generator=generator)
    labels = torch.arange(SIZE) % 7
    labels[-1] = 99  # a class with one image
    return images, labels


def one_graph(model: Toy, chunk_size: int) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Gradients, buffers and loss of plain autograd over the same chunks."""
    images, labels = batch()
    chunks = images.split(chunk_size)
    descriptors = []
    for number, chunk in enumerate(chunks):
        with seeded(chunk_seed(SEED, STEP, number), images.device):
            descriptors.append(model(chunk))
    loss = average_precision_loss(torch.cat(descriptors), labels, backend="dense")
    loss.backward()
    return _gradients(model), dict(model.named_buffers()), float(loss.detach())


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def run_step(
    model: Toy, chunk_size: int
) -> tuple[dict[str, Tensor], dict[str, Tensor], StepResult]:
    images, labels = batch()
    rows = own_rows(SIZE, chunk_size, *rank_and_size())
    result = global_step(
        model,
        images[rows],
        labels[rows],
        loss=AveragePrecisionLoss(),
        chunk_size=chunk_size,
        seed=SEED,
        step=STEP,
    )
    return _gradients(model), dict(model.named_buffers()), result


def run_steps(model: Toy, chunk_sizes: tuple[int, ...]) -> list[Any]:
    return [run_step(copy.deepcopy(model), chunk_size) for chunk_size in chunk_sizes]


@pytest.mark.parametrize("num_workers", [1, 2, 3])
@pytest.mark.parametrize("batch_norm", ["frozen", "chunk"])
def test_a_step_is_one_graph_over_the_batch(num_workers: int, batch_norm: str) -> None:
    model = Toy(batch_norm=batch_norm).train()
    chunk_sizes = (SIZE, 12, 5, 4)  # 1 chunk (fewer than workers), 2, 5 uneven, 6
    answers = on_workers(num_workers, run_steps, model, chunk_sizes)
    for i, chunk_size in enumerate(chunk_sizes):
        expected, buffers, loss = one_graph(copy.deepcopy(model), chunk_size)
        for gradients, own_buffers, result in (answer[i] for answer in answers):
            # The bias before a batch norm has no gradient: compare with the norm of them all.
            scale = torch.cat([g.flatten() for g in expected.values()]).norm()
            for name, gradient in expected.items():
                assert (gradients[name] - gradient).norm() / scale < 1e-10, (name, chunk_size)
            for name, buffer in buffers.items():
                torch.testing.assert_close(own_buffers[name], buffer, rtol=1e-10, atol=1e-12)
            assert result.loss == pytest.approx(loss, abs=1e-12)
            assert (result.num_queries, result.num_lone_queries) == (SIZE - 1, 1)


def test_without_dropout_chunks_change_nothing() -> None:
    model = Toy(batch_norm="frozen", dropout=0.0).train()
    whole, _, _ = one_graph(copy.deepcopy(model), SIZE)
    chunked, _, _ = run_step(model, 4)
    for name, gradient in whole.items():
        torch.testing.assert_close(chunked[name], gradient, rtol=1e-10, atol=1e-14)


def test_a_batch_without_a_positive_gives_zero_and_no_nan() -> None:
    model = Toy(batch_norm="frozen").train()
    images, _ = batch()
    result = global_step(
        model,
        images,
        torch.arange(SIZE),
        loss=AveragePrecisionLoss(),
        chunk_size=8,
        seed=0,
        step=0,
    )
    assert result.loss == 0
    assert result.num_queries == 0
    assert all(bool((g == 0).all()) for g in _gradients(model).values())


def test_dropout_differs_between_steps_and_leaves_the_random_state_alone() -> None:
    model = Toy(batch_norm="frozen").train()
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    run_step(model, 5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_chunk_of_every_step_of_every_seed_draws_differently() -> None:
    named = [(a, b, c) for a in range(3) for b in range(12) for c in range(12)]
    assert len({chunk_seed(*name) for name in named}) == len(named)


@pytest.mark.parametrize(("batch_size", "chunk_size"), [(23, 5), (23, 23), (24, 4)])
def test_workers_share_whole_chunks_in_order(batch_size: int, chunk_size: int) -> None:
    parts = [own_rows(batch_size, chunk_size, rank, 3) for rank in range(3)]
    assert parts[0].start == 0
    assert parts[-1].stop == batch_size
    for left, right in pairwise(parts):
        assert left.stop == right.start
        assert right.start % chunk_size == 0 or right.start == batch_size


def test_bf16_stays_close_to_float32_and_scores_in_full_precision() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 16))
    net = _Unit(model)
    images = torch.randn(32, 3, 4, 4)
    labels = torch.arange(32) % 8
    losses = []
    for bf16 in (False, True):
        net.zero_grad()
        result = global_step(
            net,
            images,
            labels,
            loss=AveragePrecisionLoss(),
            chunk_size=8,
            seed=0,
            step=0,
            bf16=bf16,
        )
        losses.append(result.loss)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


class _Unit(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.inner(images).float(), dim=1)
