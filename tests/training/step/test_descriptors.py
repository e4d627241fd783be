"""Descriptors of the batch lie in their place and nowhere else."""

import torch
from torch.profiler import ProfilerActivity, profile

from apdist.training.step.chunks import Chunk
from apdist.training.step.collectives import Workers
from apdist.training.step.descriptors import BatchDescriptors
from tests.workers import on_workers

SIZES, DIM, CHUNK = (3000, 1000), 64, 100


def run_gathered() -> tuple[int, bool]:
    """Bytes allocated from the first chunk to the gathered batch, and whether it is right."""
    workers = Workers()
    found = torch.full((CHUNK, DIM), float(workers.rank))
    chunk = Chunk(torch.zeros(CHUNK, 1), 0)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        descriptors = BatchDescriptors(SIZES, workers)
        for _ in range(SIZES[workers.rank] // CHUNK):
            descriptors.add(found, chunk)
        descriptors.check()
        rows = descriptors.gathered([2 * DIM, 2 * DIM], found.device)
    taken = sum(max(0, event.self_cpu_memory_usage) for event in record.events())
    # To say which are finite, a chunk at a time is looked at: abs, two comparisons, their product.
    temporary = SIZES[workers.rank] * DIM * (4 + 3)
    expected = torch.tensor([0.0, 1.0]).repeat_interleave(torch.tensor(SIZES))
    return taken - temporary, torch.equal(rows, expected[:, None].expand(-1, DIM))


def test_descriptors_are_held_once() -> None:
    for held, is_right in on_workers(2, run_gathered):
        assert is_right
        assert held <= 1.05 * sum(SIZES) * DIM * 4
