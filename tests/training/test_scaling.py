"""The bytes of docs/scaling.md are those that a step counts."""

import pytest

from apdist.training.step.chunks import sizes_of_workers
from apdist.training.step.collectives import Workers
from benchmarks.scaling import Case, bytes_received
from tests.toy import SIZE, Toy, run_step
from tests.workers import on_workers

CHUNKS = (13, 6, 4)


def run_counted() -> list[int]:
    num_workers, found = Workers().size, []
    for chunk_size in CHUNKS:
        sizes = sizes_of_workers(SIZE, chunk_size, num_workers)
        step = run_step(Toy(), chunk_size, ignore=None, worker_sizes=sizes)
        found.append(step.result.num_bytes)
    return found


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_bytes_on_paper_are_those_that_a_step_counts(num_workers: int) -> None:
    trainable = {name: p for name, p in Toy().named_parameters() if p.requires_grad}
    for rank, counted in enumerate(on_workers(num_workers, run_counted)):
        for chunk_size, found in zip(CHUNKS, counted, strict=True):
            case = Case(
                sizes=sizes_of_workers(SIZE, chunk_size, num_workers),
                dim=6,
                num_parameters=sum(p.numel() for name, p in trainable.items() if name != "unused"),
                num_tensors=len(trainable),
                item=8,
            )
            assert sum(bytes_received(case, rank).values()) == found
