"""Chunks of the global batch, dealt to workers in order."""

from itertools import pairwise
from typing import Any

import pytest

from apdist.training.step.chunks import own_rows


@pytest.mark.parametrize(("batch_size", "chunk_size"), [(23, 5), (23, 23), (24, 4)])
def test_workers_share_whole_chunks_in_order(batch_size: int, chunk_size: int) -> None:
    parts = [own_rows(batch_size, chunk_size, rank, 3) for rank in range(3)]
    assert parts[0].start == 0
    assert parts[-1].stop == batch_size
    for left, right in pairwise(parts):
        assert left.stop == right.start
        assert right.start % chunk_size == 0 or right.start == batch_size


@pytest.mark.parametrize("given", [(33, 0, 0, 2), (33, 8, 0, 0), (33, 8.5, 0, 1), (33, 8, 2, 2)])
def test_chunks_and_workers_that_cannot_be_are_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="chunk_size of at least 1 and rank below num_workers"):
        own_rows(*given)
