"""Batch norm: statistics of each chunk are applied once."""

from contextlib import nullcontext

import pytest

from apdist.training.step import batch_norm
from tests.toy import (
    Toy,
    one_graph,
    run_step,
)


def test_without_its_guard_batch_norm_counts_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Toy(batch_norm="chunk")
    _, buffers, _ = one_graph(model, 4)
    monkeypatch.setattr(batch_norm.ChunkStatistics, "recording", lambda _: nullcontext())
    found = run_step(model, 4).buffers
    assert int(found["norm.num_batches_tracked"]) > int(buffers["norm.num_batches_tracked"])
    assert (found["norm.running_mean"] - buffers["norm.running_mean"]).abs().max() > 0.01
