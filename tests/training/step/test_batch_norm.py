"""Batch norm: statistics of each chunk are applied once."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

from apdist.training.step import batch_norm
from apdist.training.step.batch_norm import ChunkStatistics
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


@pytest.mark.parametrize("num_chunks", [1, 5])
@pytest.mark.parametrize("momenta", [(0.1, 0.1), (0.1, 0.7), (None, 0.1), (None, None)])
def test_all_chunks_at_once_move_statistics_as_one_after_the_other(
    momenta: tuple[float | None, ...], num_chunks: int
) -> None:
    generator = torch.Generator().manual_seed(4)
    norms = nn.Sequential(*(nn.BatchNorm1d(3, momentum=momentum) for momentum in momenta)).double()
    images = torch.randn(2 + num_chunks, 6, 3, generator=generator, dtype=torch.float64)
    for chunk in images[:2]:  # they have moved before
        norms(chunk)
    expected = {name: buffer.clone() for name, buffer in norms.state_dict().items()}

    statistics = ChunkStatistics(norms)
    with statistics.recording():
        for chunk in images[2:]:
            norms(chunk)
            statistics.note_chunk()
    for name, buffer in norms.state_dict().items():
        assert torch.equal(buffer, expected[name]), name
    # As one worker that has no chunk, and one that has them all.
    empty = ChunkStatistics(norms).table()
    statistics.apply(torch.cat((empty, statistics.table())))
    found = {name: buffer.clone() for name, buffer in norms.state_dict().items()}

    norms.load_state_dict(expected)
    for chunk in images[2:]:
        norms(chunk)
    for name, buffer in norms.state_dict().items():
        torch.testing.assert_close(found[name], buffer, rtol=1e-14, atol=1e-16)
    assert [layer.momentum for layer in norms] == list(momenta)


def test_statistics_of_two_dtypes_keep_theirs() -> None:
    norms = nn.Sequential(nn.BatchNorm1d(3), nn.BatchNorm1d(3))
    norms[1].half()
    statistics = ChunkStatistics(norms)
    with statistics.recording():
        norms[0](torch.randn(4, 3))
        norms[1].running_mean.fill_(1)  # type: ignore[union-attr]
        statistics.note_chunk()
    statistics.apply(statistics.table())
    assert [layer.running_mean.dtype for layer in norms] == [torch.float32, torch.float16]
    torch.testing.assert_close(norms[1].running_mean, torch.full((3,), 0.1).half())
