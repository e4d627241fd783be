"""Parameters divided over the workers: the same gradient."""

import pytest
import torch
from torch import Tensor

from apdist.config import ModelConfig
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.model.descriptor import DescriptorNet
from apdist.training.step import sharding
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.options import StepOptions
from apdist.training.step.sharding import shard_parameters
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
        answers.append(run_step(model, size, activations=mode))
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


def run_blocks(sharded: bool, dtype: torch.dtype) -> dict[str, Tensor]:
    sharding._SMALLEST_UNIT = 1
    torch.manual_seed(0)
    network = DescriptorNet(ModelConfig(dim=16)).to(dtype).train()
    if sharded:
        shard_parameters(network, torch.device("cpu"), 2)
        assert sum(isinstance(m, sharding.FSDPModule) for m in network.modules()) > 4
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    workers, labels = Workers(), torch.arange(12) // 3
    rows = own_rows(12, 5, workers.rank, workers.size)
    global_step(
        network,
        images[rows],
        labels[rows],
        StepOptions(loss=AveragePrecisionLoss(), chunk_size=5, seed=0),
        step=0,
    )
    return gradients(network)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_a_network_sharded_block_by_block_gets_the_same_gradient(
    dtype: torch.dtype, tolerance: float
) -> None:
    expected = run_blocks(False, dtype)
    for found in on_workers(2, run_blocks, True, dtype):
        assert error_of(found, expected) < tolerance
