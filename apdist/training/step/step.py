"""One training step over a global batch: the paper's three stages (Revaud et al., 2019, fig. 2).

    1 describe   every chunk through the model: descriptors
    2 score      gather all descriptors; loss and its gradient with respect to the own ones
    3 backprop   every chunk again, with a graph, from its rows of that gradient

The result is the gradient of one graph over the whole batch, for any chunk size and any number of
workers. Chunks cut the *global* batch: which worker computes a chunk changes nothing, because its
random state is seeded by (run seed, step, number of the chunk).

Shapes: n images in the global batch, b on this worker, c in a chunk, d descriptor size.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from apdist.loss.baselines import BatchLoss
from apdist.loss.listwise import AveragePrecisionLoss, RowScores
from apdist.loss.plugged import score_rows
from apdist.training.step.activations import Activations, check_options, keeping
from apdist.training.step.batch_norm import ChunkStatistics
from apdist.training.step.chunks import Chunk, chunk_counts, numbered_chunks, padded
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import (
    after,
    check_arguments,
    check_descriptors,
    check_replay,
    meet,
    shortage_advice,
    together,
)
from apdist.training.step.gradients import add_gradients, take_gradients
from apdist.training.step.results import StepResult
from apdist.training.step.sharding import is_sharded
from apdist.training.step.stopwatch import Stopwatch


def global_step(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    loss: AveragePrecisionLoss | BatchLoss,
    chunk_size: int,
    seed: int,
    step: int,
    activations: Activations = "recompute",
    bf16: bool = False,
    ignore: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
) -> StepResult:
    """Add the gradient of the global loss, summed over the workers, to ``.grad``.

    Args:
        model: maps (c, 3, h, w) to unit-length descriptors (c, d); not wrapped in DDP.
        images: (b, 3, h, w) this worker's rows of the batch, see `own_rows`.
        labels: (b,) their classes.
        loss: scores the gathered batch.
        chunk_size: c, images that go through the model at once.
        seed: of the run, with ``step`` and the chunk's number the seed of dropout.
        step: number of the step.
        activations: what stage 1 keeps for stage 3.
        bf16: run the model, not the loss, under bf16 autocast.
        ignore: (b,) ids of junk, see `average_precision_loss`; on all workers or on none.
        group: the workers; None means all.

    Raises:
        BatchError: bad input or too little memory on one worker; raised on all.
        WorkerError: any other failure on one worker; raised on all.
    """
    check_options(activations, chunk_size)
    workers, watch = Workers(group), Stopwatch(images.device)
    sizes = workers.gather_numbers(len(images), images.device)
    counts = chunk_counts(sizes, chunk_size)
    chunks = numbered_chunks(images, chunk_size, sum(counts[: workers.rank]), (seed, step))
    if is_sharded(model):  # every pass communicates: all workers make equally many
        chunks = padded(chunks, max(counts), images)
    statistics, earlier = ChunkStatistics(model), take_gradients(model)
    advice = shortage_advice(chunk_size, activations)

    def stage(doing: str) -> tuple[Workers, torch.device, str, str]:
        return workers, images.device, f"{doing} of step {step}", advice

    with together(*stage("to describe its images")):
        check_arguments(images, labels, ignore, model)
        with keeping(activations, model), statistics.recording():
            described = [c.describe(model, bf16, statistics.note_chunk) for c in chunks]
        check_descriptors(described, [len(chunk.images) for chunk in chunks])
        own = torch.cat([d.detach() for d in described])[: len(images)] if chunks else None
    watch.lap()

    scoring = stage("to score the batch")
    with together(*scoring):
        scores = _score(own, labels, ignore, sizes, loss, lambda: meet(*scoring, None), workers)
    watch.lap()

    with together(*stage("in the backward pass")), statistics.recording(), torch.enable_grad():
        _backprop(model, chunks, described, scores.gradient, bf16)
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


def _score(
    own: Tensor | None,
    labels: Tensor,
    ignore: Tensor | None,
    sizes: list[int],
    loss: AveragePrecisionLoss | BatchLoss,
    meet: Callable[[], None],
    workers: Workers,
) -> RowScores:
    """Stage 2: the own rows of the gathered batch against all of it."""
    start = sum(sizes[: workers.rank])
    return score_rows(
        loss,
        workers.gather_descriptors(own, sizes, labels.device),  # (n, d)
        workers.gather_rows(labels.long(), sizes),
        slice(start, start + len(labels)),
        ignore=None if ignore is None else workers.gather_rows(ignore.long(), sizes),
        sum_over_workers=after(meet, workers.sum),
        gather_rows=after(meet, lambda rows: workers.gather_rows(rows, sizes)),
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
