"""Frozen parameters and blocks that are computed again: the same gradient, less memory."""

from pathlib import Path

import pytest
import torch

from apdist.config import ModelConfig
from apdist.model.descriptor import DescriptorNet
from apdist.training.step.activations import saved_bytes
from apdist.training.step.recomputing import checkpoint_blocks, largest_block_bytes
from tests.toy import error_of, gradients, one_graph, run_step
from tests.training.learning.test_parameter_groups import saved_vit
from tests.training.step.steps import (
    Blocks,
    assert_kinds_are_one_graph,
    freeze,
    run_kinds,
    whole_below,
)
from tests.workers import on_workers


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_a_step_of_what_is_frozen_or_checkpointed_is_one_graph(num_workers: int) -> None:
    assert_kinds_are_one_graph(on_workers(num_workers, run_kinds))


def test_so_is_one_with_sharded_parameters() -> None:
    assert_kinds_are_one_graph(on_workers(2, run_kinds, True))


def bytes_of_a_step(is_frozen: bool) -> tuple[int, int]:
    """Received in a step, and numbers that are trained."""
    model = Blocks()
    if is_frozen:
        whole_below(model)
    received = run_step(model, 6).result.num_bytes
    return received, sum(p.numel() for p in model.parameters() if p.requires_grad)


def both_steps() -> list[tuple[int, int]]:
    return [bytes_of_a_step(False), bytes_of_a_step(True)]


def test_gradients_of_frozen_parameters_do_not_travel() -> None:
    (all_bytes, all_trained), (few_bytes, few_trained) = on_workers(2, both_steps)[0]
    assert all_bytes - few_bytes == 8 * (all_trained - few_trained)  # float64, a ring of two


def resnet() -> DescriptorNet:
    torch.manual_seed(0)
    return DescriptorNet(ModelConfig(backbone="resnet18", dim=8)).train()


def test_a_graph_keeps_what_enters_the_blocks_and_a_frozen_backbone_keeps_none() -> None:
    images = torch.zeros(2, 3, 32, 32)
    plain, checkpointed, frozen = resnet(), resnet(), resnet()
    names = list(checkpointed.state_dict())
    assert checkpoint_blocks(checkpointed) == 8
    assert list(checkpointed.state_dict()) == names
    freeze(frozen, "backbone.")
    held = [saved_bytes(model, images) for model in (plain, checkpointed, frozen)]
    assert held[1] < 0.6 * held[0]
    assert held[2] < 0.02 * held[0]
    assert [largest_block_bytes(model, images) > 0 for model in (plain, checkpointed)] == [0, 1]
    assert held[1] + largest_block_bytes(checkpointed, images) < held[0]
    assert largest_block_bytes(checkpointed, images) == largest_block_bytes(checkpointed, images)


@pytest.mark.filterwarnings("ignore")  # transformers' own
def test_blocks_of_a_transformer_may_be_checkpointed(tmp_path: Path) -> None:
    name, images, found = saved_vit(tmp_path), torch.rand(2, 3, 32, 32), []
    for is_checkpointed in (False, True):
        torch.manual_seed(0)
        model = DescriptorNet(ModelConfig(backbone=name, dim=8)).train()
        if is_checkpointed:
            assert checkpoint_blocks(model) == 3
        model(images).square().sum().add(model(images)[0, 0]).backward()
        found.append(gradients(model))
    assert error_of(found[1], found[0]) < 1e-6


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own look at inputs
def test_compiled_blocks_may_be_checkpointed() -> None:
    expected, _, _ = one_graph(Blocks(), 6)
    model = Blocks()
    checkpoint_blocks(model)
    for block in model.blocks:
        block.compile(backend="aot_eager")
    assert error_of(run_step(model, 6).gradients, expected) < 1e-10
