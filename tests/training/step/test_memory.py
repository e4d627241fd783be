"""Which activation mode fits into the memory that there is."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from apdist.config import TrainingConfig
from apdist.training.step import memory
from apdist.training.step.collectives import Workers

CONFIG = TrainingConfig(batch_size=8, chunk_size=2)


class Network(nn.Module):
    """Its graph holds 48 numbers of float32 an image of side 4."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() * self.scale).flatten(1)


def chosen(config: TrainingConfig) -> tuple[str, str]:
    return memory.choose_activations(Network(), 4, config, Workers())


def test_a_mode_that_is_configured_is_taken() -> None:
    assert chosen(replace(CONFIG, activations="offload")) == ("offload", "as configured")


@pytest.mark.parametrize(("free", "mode"), [(4 * 2 * 48 * 4, "store"), (4 * 2 * 48 * 4 - 1, None)])
def test_graphs_are_stored_if_those_of_all_chunks_fit(
    free: int, mode: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        memory, "free_bytes", lambda device, num_workers: 2 * free
    )  # half is usable
    found, reason = chosen(CONFIG)
    assert found == (mode or "recompute")
    assert "of 4 chunks of 2 images" in reason


def test_workers_share_the_memory_of_the_machine_or_what_its_container_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 900)
    monkeypatch.setattr(memory, "_container_bytes", lambda: 600)
    assert memory.free_bytes(cpu, 3) == 200
    monkeypatch.setattr(memory, "_container_bytes", lambda: 1 << 62)
    assert memory.free_bytes(cpu, 3) == 300
