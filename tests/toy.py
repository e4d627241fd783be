"""A network with everything that can go wrong in a chunked step, and its one-graph reference."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.loss.listwise import AveragePrecisionLoss, average_precision_loss
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.options import StepOptions
from apdist.training.step.randomness import chunk_seed, seeded
from apdist.training.step.results import StepResult
from apdist.training.step.sharding import full_tensor
from apdist.training.step.step import global_step

SIZE = 26
SEED, STEP = 3, 7
# 1 chunk (fewer than workers), 2 (fewer than three workers), 5 uneven, 7 uneven.
CHUNK_SIZES = (26, 13, 6, 4)


class Toy(nn.Module):
    """Dropout, batch norm, a frozen and an unused parameter; float64."""

    def __init__(self, *, batch_norm: str = "frozen", dropout: float = 0.3) -> None:
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
        self.train()

    def train(self, mode: bool = True) -> "Toy":
        super().train(mode)
        if self.batch_norm == "frozen":
            self.norm.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.norm(self.first(images.flatten(1)))))
        return F.normalize(self.last(x) * self.frozen, dim=1)


@dataclass
class Answer:
    """What a step left on one worker."""

    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    result: StepResult


def batch(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels with a class of one image, and ids of junk pairs."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(SIZE, 3, 4, 4, dtype=torch.float64, generator=generator)
    labels = torch.arange(SIZE) % 7
    labels[-1] = 99
    ignore = torch.full((SIZE,), -1)
    ignore[[0, 1, 9, 17]] = 5
    return images, labels, ignore


def one_graph(model: Toy, chunk_size: int) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Gradients, buffers and loss of plain autograd over the same chunks."""
    model = copy.deepcopy(model)
    images, labels, ignore = batch()
    descriptors = []
    for number, chunk in enumerate(images.split(chunk_size)):
        with seeded(chunk_seed(SEED, STEP, number), images.device):
            descriptors.append(model(chunk))
    loss = average_precision_loss(torch.cat(descriptors), labels, ignore=ignore, backend="dense")
    loss.backward()
    return gradients(model), dict(model.named_buffers()), float(loss.detach())


def gradients(model: nn.Module) -> dict[str, Tensor]:
    """By name, zeros where there is none; whole where parameters are sharded."""
    return {
        name: torch.zeros(p.shape, dtype=p.dtype) if p.grad is None else full_tensor(p.grad).clone()
        for name, p in model.named_parameters()
        if p.requires_grad
    }


def run_step(model: Toy, chunk_size: int, **options: Any) -> Answer:
    """A step of this worker."""
    images, labels, ignore = batch()
    workers = Workers()
    rows = own_rows(SIZE, chunk_size, workers.rank, workers.size)
    ignore = options.pop("ignore", ignore[rows])
    fixed = StepOptions(
        **{"loss": AveragePrecisionLoss()} | options, chunk_size=chunk_size, seed=SEED
    )
    result = global_step(model, images[rows], labels[rows], fixed, step=STEP, ignore=ignore)
    return Answer(gradients(model), dict(model.named_buffers()), result)


def error_of(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Norm of the difference of two gradients, relative to the second."""
    # The bias before a batch norm has no gradient: compare with the norm of them all.
    scale = torch.cat([g.flatten() for g in expected.values()]).norm()
    difference = torch.cat([(found[n] - g).flatten() for n, g in expected.items()]).norm()
    return float(difference / scale)
