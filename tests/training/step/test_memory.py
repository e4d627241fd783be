"""Which activation mode fits into the memory that there is."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from apdist.config import ModelConfig, TrainingConfig
from apdist.model.descriptor import DescriptorNet
from apdist.training.step import memory
from apdist.training.step.activations import saved_bytes
from apdist.training.step.collectives import Workers
from apdist.training.step.memory import MemoryProbe
from apdist.training.step.recomputing import checkpoint_blocks
from tests.workers import on_workers

CONFIG = TrainingConfig(batch_size=8, chunk_size=2)


class Network(nn.Module):
    """Its graph holds 48 numbers of float32 an image of side 4."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() * self.scale).flatten(1)


def chosen(config: TrainingConfig) -> tuple[str, str]:
    return MemoryProbe(Network(), 4, config, Workers()).choose_activations()


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


# An image takes 2 x 48 numbers in a pass; 8 descriptors of 48 and their gradient stay beside it.
RESIDENT = 8 * 2 * 48 * 4 + 2 * 4


@pytest.mark.parametrize(
    ("batch_size", "room", "size"),
    [(8, 3, 3), (8, 100, 8), (8, 0, 1), (64, 21, 16), (64, 23.9, 16), (64, 24, 24), (64, 1e3, 64)],
)
def test_the_largest_chunk_that_fits_is_found(
    batch_size: int, room: float, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, batch_size=batch_size, chunk_size="auto")
    resident = RESIDENT if batch_size == 8 else 64 * 2 * 48 * 4 + 2 * 4
    free = 2 * int(room * 2 * 48 * 4 + 1) + resident  # half is usable
    monkeypatch.setattr(memory, "free_bytes", lambda device, num_workers: free)
    network = Network()
    found, reason = MemoryProbe(network, 4, config, Workers()).choose_chunk_size()
    assert found == size
    assert "an image takes 0.0 MiB in a pass" in reason
    assert network.scale.grad is None


def test_a_cpu_gets_no_larger_chunks_than_it_computes_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device, num_workers: 1 << 40)
    monkeypatch.setattr(memory, "saved_bytes", lambda network, images: 1000 * len(images))
    config = TrainingConfig(batch_size=512, chunk_size="auto")
    found, reason = MemoryProbe(Network(), 224, config, Workers()).choose_chunk_size()
    assert found == 16
    assert reason.endswith("; a CPU computes larger chunks more slowly")
    found, reason = MemoryProbe(Network(), 16, config, Workers()).choose_chunk_size()
    assert found == 512
    assert "slowly" not in reason


def test_larger_chunks_fit_where_blocks_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device, num_workers: 256 << 20)
    config, found = TrainingConfig(batch_size=512, chunk_size="auto"), []
    for is_checkpointed in (False, True):
        network = DescriptorNet(ModelConfig(backbone="resnet18", dim=8))
        if is_checkpointed:
            checkpoint_blocks(network)
        found.append(MemoryProbe(network, 64, config, Workers()).choose_chunk_size()[0])
    assert found[0] < found[1]
    # Of a block the whole graph is there for a while.
    images = torch.zeros(2, 3, 64, 64)
    taken = MemoryProbe(network, 64, config, Workers())._pass_bytes(network, images)
    assert taken > 2.1 * memory.saved_bytes(network, images)


def least_of_both() -> int:
    """An image takes three times as much on the second worker."""
    workers, saved = Workers(), (memory.free_bytes, memory.saved_bytes)
    memory.free_bytes = lambda *_: 200_000  # type: ignore[assignment]
    memory.saved_bytes = lambda _, i: 1000 * len(i) * (1 + 2 * workers.rank)  # type: ignore[assignment]
    config = replace(CONFIG, chunk_size="auto", batch_size=100)
    found = MemoryProbe(Network(), 4, config, workers).choose_chunk_size()[0]
    memory.free_bytes, memory.saved_bytes = saved
    return found


def test_workers_agree_on_the_least() -> None:
    assert on_workers(2, least_of_both) == [8, 8]


def test_workers_share_the_memory_of_the_machine_or_what_its_container_leaves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 900)
    monkeypatch.setattr(memory, "_container_bytes", lambda: 600)
    assert memory.free_bytes(cpu, 3) == 200
    monkeypatch.setattr(memory, "_container_bytes", lambda: 1 << 62)
    assert memory.free_bytes(cpu, 3) == 300


def test_weights_do_not_count_as_saved_memory() -> None:
    model = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300)).double()
    images = torch.rand(100, 300, dtype=torch.float64)
    # Inputs of both layers; the output of the rectifier is the second one.
    assert saved_bytes(model, images) == 2 * images.nbytes
