"""One training step over a global batch: the paper's three stages (Revaud et al., 2019, fig. 2).

    1 describe   every chunk through the model: descriptors
    2 score      gather all descriptors; loss and its gradient with respect to the own ones
    3 backprop   every chunk again, with a graph, from its rows of that gradient

The result is the gradient of one graph over the whole batch, for any chunk size and any number of
workers. Chunks cut the *global* batch, and the random state of each is seeded by (run seed, step,
number of the chunk): which worker computes it changes nothing.

Shapes: n images in the global batch, b on this worker, c in a chunk, d descriptor size.
"""

from contextlib import closing

from torch import Tensor, nn

from apdist.data.loading.feed import send_small
from apdist.loss.gradient import score_own_rows
from apdist.training.step.batch_norm import ChunkStatistics
from apdist.training.step.chunks import chunk_counts, numbered_chunks, padded
from apdist.training.step.collectives import Workers
from apdist.training.step.descriptors import BatchDescriptors
from apdist.training.step.failures import (
    check_arguments,
    check_kinds,
    check_plans,
    check_sizes,
    shortage_advice,
)
from apdist.training.step.gradients import (
    add_gradients,
    add_to_loss,
    take_gradients,
    used_anywhere,
    used_flags,
)
from apdist.training.step.guard import Guard, LossCollectives
from apdist.training.step.options import StepOptions
from apdist.training.step.passes import Passes
from apdist.training.step.results import StageSeconds, StepResult
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

    If the loss is a module with parameters, theirs as well, which must be equal on all workers.

    Args:
        model: maps (c, 3, h, w) to unit-length descriptors (c, d); not wrapped in DDP.
        images: (b, 3, h, w) this worker's rows of the batch, see `own_rows`. In host memory, where
            they may be of any number: they go to the model's device chunk by chunk.
        labels: (b,) their classes.
        options: what stays the same from step to step.
        step: number of the step.
        ignore: (b,) ids of junk, see `average_precision_loss`; on all workers or on none.

    Raises:
        ValueError: an argument is of another kind; nobody has been waited for yet.
        BatchError: bad input or too little memory on one worker; raised on all.
        WorkerError: any other failure on one worker; raised on all.
    """
    check_kinds(model, images, labels, options)
    workers, device = Workers(options.group), next(model.parameters(), images).device
    watch, advice = Stopwatch(device), shortage_advice(options.chunk_size, options.activations)
    guard = Guard(workers, device, f"of step {step}", advice)
    sizes = options.worker_sizes or workers.gather_numbers(len(images), device)
    counts = chunk_counts(sizes, options.chunk_size)
    num_before = sum(counts[: workers.rank])
    chunks = numbered_chunks(images, options.chunk_size, num_before, seed=options.seed, step=step)
    if is_sharded(model):  # every pass communicates: all workers make equally many
        chunks = padded(chunks, max(counts), images)
    labels = send_small(labels, device)
    ignore = None if ignore is None else send_small(ignore, device)
    statistics, earlier = ChunkStatistics(model), take_gradients(model)
    descriptors = BatchDescriptors(sizes, workers)

    with closing(Passes(model, chunks, options, statistics, device)) as passes:
        with guard("to describe its images"):
            check_sizes(sizes, workers.rank, workers.size, len(images))
            check_arguments(images, labels, ignore, model)
            passes.describe(descriptors)
        told = guard.meet(descriptors.format_code, len(images), num_before, sum(sizes))
        check_plans([plan for _, *plan in told], options.chunk_size)
        watch.lap()

        batch = descriptors.gathered([code for code, *_ in told], device)  # (n, d)
        watch.lap()
        collectives = LossCollectives(workers, sizes, batch.new_empty(0))
        scores, first = None, sum(sizes[: workers.rank])
        with guard("to score the batch"), collectives.attended(options.loss):
            scores = score_own_rows(
                options.loss,
                batch,
                collectives.labels(labels),
                slice(first, first + len(labels)),
                sum_over_workers=collectives.sum,
                gather_rows=collectives.gather,
                ignore=None if ignore is None else collectives.labels(ignore),
            )
        # Who has failed goes on without a gradient: sharded parameters keep others waiting for it.
        gradient = scores.gradient if scores else batch[:1].mul(0).expand(len(images), -1)
        del batch, collectives
        watch.lap()

        parameters = [p for p in model.parameters() if p.requires_grad]
        with guard("in the backward pass"):
            passes.backprop(gradient)
        watch.lap()
    flags = guard.meet(*used_flags(parameters))
    workers.sum_gradients(used_anywhere(parameters, flags))
    if statistics.layers:
        statistics.apply(workers.gather_rows(statistics.table(), counts))
    add_gradients(model, earlier)
    assert scores
    add_to_loss(options.loss, scores.parameter_gradients, workers)
    watch.lap()
    return StepResult(
        loss=float(scores.loss),
        listwise_loss=None if scores.listwise_loss is None else float(scores.listwise_loss),
        term_losses=tuple(map(float, scores.term_losses)),
        average_precision=scores.average_precision,
        diagnostics=scores.diagnostics,
        seconds=StageSeconds(*watch.laps()),
        num_bytes=workers.num_bytes,
    )
