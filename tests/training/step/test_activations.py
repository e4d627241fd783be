"""What stage 1 keeps for stage 3."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apdist.training.step import activations
from apdist.training.step.activations import saved_bytes
from tests.toy import (
    Toy,
    error_of,
    one_graph,
    run_step,
)


def test_weights_do_not_count_as_saved_memory() -> None:
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300)).double()
    images = torch.rand(100, 300, dtype=torch.float64)
    # Inputs of both layers; the output of the rectifier is the second one.
    assert saved_bytes(model, images) == 2 * images.nbytes


def test_offloading_moves_activations_but_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "_SMALLEST_OFFLOADED_BYTES", 1)
    model, moved = Toy(), set[int]()
    addresses = activations.storages_of(model)
    right = activations._Offloading._pack

    def noting(self: Any, saved: Tensor) -> Any:
        device, packed = right(self, saved)
        address = saved.untyped_storage().data_ptr()
        if packed.untyped_storage().data_ptr() != address:
            moved.add(address)
        else:
            assert address in addresses or saved.numel() == 0
        return device, packed

    monkeypatch.setattr(activations._Offloading, "_pack", noting)
    expected, _, _ = one_graph(Toy(), 6)
    assert error_of(run_step(model, 6, activations="offload").gradients, expected) < 1e-10
    assert moved
    assert not moved & addresses
