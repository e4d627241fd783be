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
    largest = sorted(max(0, event.cpu_memory_usage) for event in record.events())
    expected = torch.tensor([0.0, 1.0]).repeat_interleave(torch.tensor(SIZES))
    # A chunk's own finite flags are freed at once; all else that is not the batch adds up.
    return max(largest), torch.equal(rows, expected[:, None].expand(-1, DIM))


def test_descriptors_are_held_once() -> None:
    for largest, is_right in on_workers(2, run_gathered):
        assert is_right
        assert largest <= 1.05 * sum(SIZES) * DIM * 4
