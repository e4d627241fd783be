"""One training step over a global batch: the paper's three stages (Revaud et al., 2019, fig. 2).

    1 describe   every chunk through the model without a graph: descriptors
    2 score      gather all descriptors; loss and its gradient with respect to the own ones
    3 backprop   every chunk again, with a graph, from its rows of that gradient

The result is the gradient of one graph over the whole batch, for any chunk size and any number of
workers. Chunks cut the *global* batch: which worker computes a chunk changes nothing, because its
random state is seeded by (run seed, step, number of the chunk).

Shapes: n images in the global batch, b on this worker, c in a chunk, d descriptor size.
"""

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from apdist.loss.average_precision import AveragePrecisionLoss, RowScores
from apdist.training.batch_norm import ChunkStatistics
from apdist.training.collectives import (
    gather_rows,
    gather_sizes,
    rank_and_size,
    sum_gradients,
    sum_over_workers,
)
from apdist.training.randomness import chunk_seed, seeded


@dataclass(frozen=True)
class StepResult:
    """What a step found; the gradient itself is in ``.grad`` of the parameters."""

    loss: float
    """1 - mAP of the global batch, binned; the same on every worker."""
    average_precision: Tensor
    """(b,) binned AP of the own queries, NaN where undefined."""
    num_queries: int
    """Queries of the global batch that have a positive."""
    num_lone_queries: int
    """Queries of the global batch without one; they do not count."""
    describe_s: float
    score_s: float
    backprop_s: float


def own_rows(batch_size: int, chunk_size: int, rank: int, num_workers: int) -> slice:
    """The rows of a global batch whose chunks a worker computes: whole chunks, in order."""
    num_chunks = -(-batch_size // chunk_size)
    first, last = (num_chunks * r // num_workers for r in (rank, rank + 1))
    return slice(min(first * chunk_size, batch_size), min(last * chunk_size, batch_size))


def global_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    loss: AveragePrecisionLoss,
    chunk_size: int,
    seed: int,
    step: int,
    bf16: bool = False,
) -> StepResult:
    """Leave the gradient of the global loss, summed over the workers, in ``.grad``.

    Args:
        model: maps (c, 3, h, w) to unit-length descriptors (c, d); not wrapped in DDP.
        images: (b, 3, h, w) this worker's rows of the batch, see `own_rows`.
        labels: (b,) their classes.
        loss: scores the gathered batch.
        chunk_size: c, images that go through the model at once.
        seed: of the run, with ``step`` and the chunk's number the seed of dropout.
        step: number of the step.
        bf16: run the model, not the loss, under bf16 autocast.
    """
    sizes = gather_sizes(len(images), labels.device)
    rank, _ = rank_and_size()
    first_chunk = sum(-(-size // chunk_size) for size in sizes[:rank])
    chunks = [images[i : i + chunk_size] for i in range(0, len(images), chunk_size)]
    seeds = [chunk_seed(seed, step, first_chunk + i) for i in range(len(chunks))]
    statistics = ChunkStatistics(model)
    clock = [time.perf_counter()]

    described: list[Tensor] = []
    with torch.no_grad(), statistics.recording():
        for chunk, number in zip(chunks, seeds, strict=True):
            described.append(_describe(model, chunk, number, bf16))  # (c, d)
            statistics.note_chunk()
    clock.append(time.perf_counter())

    dtype = next(model.parameters()).dtype
    scores = _score(described, labels, sizes, loss, dtype)
    clock.append(time.perf_counter())

    with statistics.recording():
        for chunk, number, gradient in zip(
            chunks, seeds, scores.gradient.split(chunk_size), strict=False
        ):
            _describe(model, chunk, number, bf16).backward(gradient)
    sum_gradients(model.parameters())
    if statistics.layers:
        num_chunks = [-(-size // chunk_size) for size in sizes]
        statistics.apply(gather_rows(statistics.table(scores.gradient), num_chunks))
    clock.append(time.perf_counter())

    return StepResult(
        loss=float(scores.loss),
        average_precision=scores.average_precision,
        num_queries=scores.num_queries,
        num_lone_queries=scores.num_lone_queries,
        describe_s=clock[1] - clock[0],
        score_s=clock[2] - clock[1],
        backprop_s=clock[3] - clock[2],
    )


def _describe(model: nn.Module, chunk: Tensor, seed: int, bf16: bool) -> Tensor:
    with seeded(seed, chunk.device), torch.autocast(chunk.device.type, torch.bfloat16, bf16):
        descriptors: Tensor = model(chunk)
    return descriptors


def _score(
    described: list[Tensor],
    labels: Tensor,
    sizes: list[int],
    loss: AveragePrecisionLoss,
    dtype: torch.dtype,
) -> RowScores:
    """Stage 2: the own rows of the gathered batch against all of it."""
    rank, _ = rank_and_size()
    start = sum(sizes[:rank])
    # A worker without images does not know the width that it must send.
    width = max(gather_sizes(described[0].shape[1] if described else 0, labels.device))
    nothing = torch.zeros((0, width), dtype=dtype, device=labels.device)
    own = torch.cat([*described, nothing])  # (b, d)
    return loss.score_rows(
        gather_rows(own, sizes),
        gather_rows(labels, sizes),
        slice(start, start + sizes[rank]),
        sum_over_workers=sum_over_workers,
        gather_rows=lambda table: gather_rows(table, sizes),
    )
