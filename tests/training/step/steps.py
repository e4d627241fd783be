"""Steps for the tests."""

import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.training.step.collectives import Workers
from apdist.training.step.recomputing import checkpoint_blocks
from apdist.training.step.sharding import shard_parameters
from tests.toy import CHUNK_SIZES, Answer, Toy, error_of, one_graph, run_step

MODES = ("recompute", "store", "offload")


CASES = list(itertools.product(("frozen", "chunk"), CHUNK_SIZES, MODES))


class Block(nn.Module):
    """A residual block with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(12, 12), nn.BatchNorm1d(12)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor, *, scale: float) -> Tensor:
        return x + scale * self.dropout(F.relu(self.norm(self.linear(x))))


class Blocks(Toy):
    """The toy with a list of blocks before its last layer."""

    def __init__(self, *, batch_norm: str = "frozen") -> None:
        super().__init__(batch_norm=batch_norm)
        self.blocks = nn.ModuleList(Block() for _ in range(2)).double()
        self.train()

    def train(self, mode: bool = True) -> "Blocks":
        super().train(mode)
        for block in getattr(self, "blocks", ()):
            block.norm.train(mode and self.batch_norm == "chunk")
        return self

    def forward(self, images: Tensor) -> Tensor:
        x = self.dropout(F.relu(self.norm(self.first(images.flatten(1)))))
        for block in self.blocks:
            x = block(x, scale=0.5)
        return F.normalize(self.last(x) * self.frozen, dim=1)


def freeze(model: nn.Module, *parts: str) -> None:
    """Train no parameter whose name begins with one of ``parts``."""
    for name, parameter in model.named_parameters():
        if name.startswith(parts):
            parameter.requires_grad = False


def whole_below(model: nn.Module) -> None:
    freeze(model, "first", "norm", "blocks.0")


def part_above(model: nn.Module) -> None:
    freeze(model, "blocks.1", "last.bias")


def nothing(model: nn.Module) -> None:
    """Train all of it."""


KINDS: dict[str, tuple[Callable[[nn.Module], None], bool]] = {
    "frozen below": (whole_below, False),
    "frozen above": (part_above, False),
    "checkpointed": (nothing, True),
    "checkpointed, frozen below": (whole_below, True),
}
"""What is frozen, and whether blocks are computed again on the way back."""
KIND_CASES = [
    *itertools.product(KINDS, ("frozen",), (26, 4), ("recompute",)),
    *itertools.product([kind for kind in KINDS if KINDS[kind][1]], ("chunk",), (6,), MODES),
]


def run_kinds(sharded: bool = False) -> list[Answer]:
    """A step of each case on this worker."""
    answers = []
    for kind, norm, size, mode in KIND_CASES:
        model = Blocks(batch_norm=norm)
        frozen, is_checkpointed = KINDS[kind]
        frozen(model)
        if is_checkpointed:
            assert checkpoint_blocks(model) == 2
        if sharded:
            shard_parameters(model, torch.device("cpu"), Workers().size)
        answers.append(run_step(model, size, activations=mode, gather_once=sharded))
    return answers


def assert_kinds_are_one_graph(workers: list[list[Answer]]) -> None:
    """Compare what `run_kinds` gave on each worker with plain autograd, without checkpoints."""
    for i, (kind, norm, size, _) in enumerate(KIND_CASES):
        model = Blocks(batch_norm=norm)
        KINDS[kind][0](model)
        expected, buffers, loss = one_graph(model, size)
        for answer in (worker[i] for worker in workers):
            assert error_of(answer.gradients, expected) < 1e-10, KIND_CASES[i]
            assert answer.gradients.keys() == expected.keys()
            assert answer.result.loss == pytest.approx(loss, abs=1e-12)
            for name, buffer in buffers.items():
                torch.testing.assert_close(answer.buffers[name], buffer, rtol=1e-10, atol=1e-12)
