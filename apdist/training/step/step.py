"""One training step over a global batch: the paper's three stages (Revaud et al., 2019, fig. 2).

    1 describe   every chunk through the model: descriptors
    2 score      gather all descriptors; loss and its gradient with respect to the own ones
    3 backprop   every chunk again, with a graph, from its rows of that gradient

The result is the gradient of one graph over the whole batch, for any chunk size and any number of
workers. Chunks cut the *global* batch: which worker computes a chunk changes nothing, because its
random state is seeded by (run seed, step, number of the chunk).

Shapes: n images in the global batch, b on this worker, c in a chunk, d descriptor size.
"""

import torch
from torch import Tensor, nn

from apdist.loss.batch_loss import BatchLoss
from apdist.loss.gradient import score_own_rows
from apdist.loss.results import RowScores
from apdist.training.step.activations import keeping
from apdist.training.step.batch_norm import ChunkStatistics
from apdist.training.step.chunks import Chunk, chunk_counts, numbered_chunks, padded
from apdist.training.step.collectives import Guard, Workers
from apdist.training.step.failures import (
    check_arguments,
    check_descriptors,
    check_replay,
    shortage_advice,
)
from apdist.training.step.gradients import add_gradients, take_gradients
from apdist.training.step.options import StepOptions
from apdist.training.step.results import StepResult
from apdist.training.step.sharding import is_sharded
from apdist.training.step.stopwatch import Stopwatch


def global_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    options: StepOptions,
    *,
    step: int,
    ignore: Tensor | None = None,
) -> StepResult:
    """Add the gradient of the global loss, summed over the workers, to ``.grad``.

    Args:
        model: maps (c, 3, h, w) to unit-length descriptors (c, d); not wrapped in DDP.
        images: (b, 3, h, w) this worker's rows of the batch, see `own_rows`.
        labels: (b,) their classes.
        options: what stays the same from step to step.
        step: number of the step.
        ignore: (b,) ids of junk, see `average_precision_loss`; on all workers or on none.

    Raises:
        BatchError: bad input or too little memory on one worker; raised on all.
        WorkerError: any other failure on one worker; raised on all.
    """
    workers, watch = Workers(options.group), Stopwatch(images.device)
    advice = shortage_advice(options.chunk_size, options.activations)
    guard = Guard(workers, images.device, f"of step {step}", advice)
    sizes = workers.gather_numbers(len(images), images.device)
    counts = chunk_counts(sizes, options.chunk_size)
    num_before = sum(counts[: workers.rank])
    chunks = numbered_chunks(images, options.chunk_size, num_before, (options.seed, step))
    if is_sharded(model):  # every pass communicates: all workers make equally many
        chunks = padded(chunks, max(counts), images)
    statistics, earlier = ChunkStatistics(model), take_gradients(model)

    with guard("to describe its images"):
        check_arguments(images, labels, ignore, model)
        described = _describe(model, chunks, options, statistics)
        own = torch.cat([d.detach() for d in described])[: len(images)] if chunks else None
    watch.lap()

    with guard("to score the batch"):
        scores = _score(options.loss, own, labels, ignore, sizes, guard)
    watch.lap()

    with guard("in the backward pass"), statistics.recording(), torch.enable_grad():
        _backprop(model, chunks, described, scores.gradient, options.bf16)
    workers.sum_gradients(model.parameters())
    if statistics.layers:
        statistics.apply(workers.gather_rows(statistics.table(), counts))
    add_gradients(model, earlier)
    watch.lap()
    return StepResult(
        loss=float(scores.loss),
        average_precision=scores.average_precision,
        diagnostics=scores.diagnostics,
        seconds=(watch.laps[0], watch.laps[1], watch.laps[2]),
        num_bytes=workers.num_bytes,
    )


def _describe(
    model: nn.Module, chunks: list[Chunk], options: StepOptions, statistics: ChunkStatistics
) -> list[Tensor]:
    """Stage 1: descriptors (c, d) of every chunk, with a graph if that is kept."""
    with keeping(options.activations, model), statistics.recording():
        described = [c.describe(model, options.bf16, statistics.note_chunk) for c in chunks]
    check_descriptors(described, [len(chunk.images) for chunk in chunks])
    return described


def _score(
    loss: BatchLoss,
    own: Tensor | None,
    labels: Tensor,
    ignore: Tensor | None,
    sizes: list[int],
    guard: Guard,
) -> RowScores:
    """Stage 2: loss of the gathered batch, its gradient by the ``own`` descriptors (b, d)."""
    workers = guard.workers
    start = sum(sizes[: workers.rank])
    return score_own_rows(
        loss,
        workers.gather_descriptors(own, sizes, labels.device),  # (n, d)
        workers.gather_rows(labels.long(), sizes),
        slice(start, start + len(labels)),
        ignore=None if ignore is None else workers.gather_rows(ignore.long(), sizes),
        sum_over_workers=guard.before(workers.sum),
        gather_rows=guard.before(lambda rows: workers.gather_rows(rows, sizes)),
    )


def _backprop(
    model: nn.Module, chunks: list[Chunk], described: list[Tensor], gradient: Tensor, bf16: bool
) -> None:
    """Stage 3: the gradient (b, d) of the own descriptors through the model, chunk by chunk."""
    rows = gradient.split([chunk.num_images for chunk in chunks])
    for number, (chunk, first, own) in enumerate(zip(chunks, described, rows, strict=True)):
        again = first if first.requires_grad else chunk.describe(model, bf16)  # (c, d)
        if number == 0:
            check_replay(first, again)
        again.backward(torch.zeros_like(again) if chunk.padding else own.to(again.dtype))
