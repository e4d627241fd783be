"""Parameters divided over the workers: the same gradient."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from apdist.config import ModelConfig
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.model.descriptor import DescriptorNet
from apdist.training.step import sharding
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.options import StepOptions
from apdist.training.step.sharding import compile_blocks, shard_parameters
from apdist.training.step.step import global_step
from tests.toy import (
    Answer,
    Toy,
    error_of,
    gradients,
    one_graph,
    run_step,
)
from tests.training.step.steps import CASES
from tests.workers import on_workers


def run_sharded() -> list[Answer]:
    device = torch.device("cpu")
    answers = []
    for norm, size, mode in CASES:
        model = Toy(batch_norm=norm)
        shard_parameters(model, device, 2)
        answers.append(run_step(model, size, activations=mode, gather_once=True))
    return answers


def test_sharded_parameters_get_the_same_gradient() -> None:
    for i, (norm, chunk_size, mode) in enumerate(CASES):
        if i == 0:
            workers = on_workers(2, run_sharded)
        expected, buffers, loss = one_graph(Toy(batch_norm=norm), chunk_size)
        for answer in (worker[i] for worker in workers):
            assert error_of(answer.gradients, expected) < 1e-10, (norm, chunk_size, mode)
            assert answer.result.loss == pytest.approx(loss, abs=1e-12)
            for name, buffer in buffers.items():
                torch.testing.assert_close(answer.buffers[name], buffer, rtol=1e-10, atol=1e-12)


class Communicated(TorchDispatchMode):
    """Counts the collectives of FSDP2, and the bytes of parameters that were gathered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run ``func``, counted."""
        if "_allgather_base_" in str(func):
            self.counts["gathered"] += 1
            self.counts["bytes"] += args[0].nbytes
        self.counts["divided"] += "_reduce_scatter_base_" in str(func)
        return func(*args, **(kwargs or {}))


class Block(nn.Module):
    """As those of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.scale = nn.LayerNorm(48), nn.Parameter(torch.ones(48))
        self.first, self.second = nn.Linear(48, 96), nn.Linear(96, 48)

    def forward(self, words: Tensor) -> Tensor:
        """Words (c, 16, 48) to such words."""
        return words + self.scale * self.second(F.gelu(self.first(self.norm(words))))


class Blocks(nn.Module):
    """A network of blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(3))
        self.linear = nn.Linear(48, 8)

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors of images (c, 3, 16, 16)."""
        words = images.flatten(1).unflatten(1, (16, 48))
        for layer in self.layers:
            words = layer(words)
        with torch.autocast("cpu", enabled=False):
            return F.normalize(self.linear(words.mean(1).float()), dim=1)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "float64": lambda: DescriptorNet(ModelConfig(dim=16)).double(),
    "float32": lambda: DescriptorNet(ModelConfig(dim=16)),
    "bf16": Blocks,
}


def run_blocks(
    kind: str, sharded: bool = True, once: bool = False
) -> tuple[dict[str, Tensor], Counter[str]]:
    """The gradient of a step, and how often parameters were gathered and gradients divided."""
    sharding._SMALLEST_UNIT = 1
    torch.manual_seed(0)
    network = NETWORKS[kind]().train()
    if sharded:
        shard_parameters(network, torch.device("cpu"), 2, bf16=kind == "bf16")
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    images = images.to(next(network.parameters()).dtype)
    workers, labels = Workers(), torch.arange(12) // 3
    rows = own_rows(12, 2, workers.rank, workers.size)
    options = StepOptions(
        loss=AveragePrecisionLoss(), chunk_size=2, gather_once=once, bf16=kind == "bf16"
    )
    with Communicated() as communicated:
        global_step(network, images[rows], labels[rows], options, step=0)
    return gradients(network), communicated.counts


def run_all_blocks(cases: list[tuple[str, bool]]) -> list[tuple[dict[str, Tensor], Counter[str]]]:
    return [run_blocks(kind, once=once) for kind, once in cases]


TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "bf16": 1e-3}


def test_blocks_are_compiled_each_and_a_network_without_them_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda part: compiled.append(type(part).__name__))
    compile_blocks(DescriptorNet(ModelConfig(backbone="resnet18")))
    assert compiled == ["BasicBlock"] * 8
    compiled.clear()
    compile_blocks(DescriptorNet(ModelConfig()))
    assert compiled == ["DescriptorNet"]


def test_a_network_sharded_block_by_block_gets_the_same_gradient() -> None:
    found = on_workers(2, run_all_blocks, [(k, once) for k in NETWORKS for once in (False, True)])
    for kind, place in zip(NETWORKS, (0, 2, 4), strict=True):
        expected, _ = run_blocks(kind, sharded=False)
        for gradient, _ in (case for worker in found for case in worker[place : place + 2]):
            assert error_of(gradient, expected) < TOLERANCES[kind], kind
        (_, often), (_, once) = found[0][place : place + 2]
        # Three chunks a worker: gathered for each pass, or for each of two stages.
        parts = once["divided"]
        assert parts >= 4
        assert (once["gathered"], often["divided"]) == (2 * parts, 3 * parts)
        assert often["gathered"] > 4 * parts
    rounded, others = 3 * (48 * 96 * 2 + 96 + 48), 3 * 3 * 48 + 48 * 8 + 8
    assert once["bytes"] == 2 * (2 * rounded + 4 * others)
