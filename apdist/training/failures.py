"""What goes wrong on one worker is raised on all of them: nobody waits for one who is gone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from apdist.training.collectives import Workers


class BatchError(ValueError):
    """A batch or an option that a worker cannot use; to try it again would not help."""


class WorkerError(RuntimeError):
    """Something failed on a worker."""


# What a second pass through the model may differ by; bf16 is only repeatable to about this.
_REPLAY_TOLERANCE = {torch.float64: 1e-6, torch.float32: 0.02}
_FINE, _BAD_INPUT, _FAILED = 0, 1, 2


@contextmanager
def together(workers: Workers, device: torch.device, doing: str, advice: str) -> Iterator[None]:
    """Run the block on every worker; if it raises on one, raise on all.

    All workers must enter it. It communicates once when the block has ended, never inside.

    Args:
        workers: who takes part.
        device: where small tensors for the workers lie.
        doing: what the block does, for the message.
        advice: what helps where memory is short.

    Raises:
        BatchError: bad input (a ValueError) or too little memory, on any worker.
        WorkerError: any other exception, on any worker.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:  # raised again below, on all workers alike
        failure = error
    kind = _FINE if failure is None else _kind(failure)
    kinds = workers.gather_numbers(kind, device)
    if not any(kinds):
        return
    texts = workers.gather_texts(_text(failure, advice) if failure else "", device)
    rank = next(rank for rank, kind in enumerate(kinds) if kind)
    kind_raised = BatchError if kinds[rank] == _BAD_INPUT else WorkerError
    where = f"worker {rank} of {workers.size} failed {doing}"
    raise kind_raised(f"{where}: {texts[rank]}") from failure


def _kind(error: Exception) -> int:
    return _BAD_INPUT if isinstance(error, ValueError) or _is_shortage(error) else _FAILED


def _text(error: Exception, advice: str) -> str:
    if _is_shortage(error):
        return f"out of memory; {advice}"
    name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{name}{error}"


def _is_shortage(error: Exception) -> bool:
    # Allocation on the CPU fails with a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def shortage_advice(chunk_size: int, activations: str) -> str:
    """What to change where memory is short."""
    smaller = f"try {max(1, chunk_size // 4)}"
    other = "" if activations == "recompute" else " or activations=recompute"
    return f"chunk_size {chunk_size} does not fit: {smaller}{other}"


def check_finite(descriptors: Tensor | None) -> None:
    """Refuse own descriptors (b, d) with NaN or infinity.

    Raises:
        ValueError: names the first image.
    """
    if descriptors is None:
        return
    bad = (~descriptors.isfinite().all(dim=1)).nonzero()[:, 0]
    if len(bad):
        raise ValueError(
            f"{len(bad)} descriptors are NaN or infinite, the first is that of its image "
            f"{int(bad[0])}; lower the learning rate, or look at that image"
        )


def check_replay(first: Tensor, again: Tensor) -> None:
    """Compare the descriptors (c, d) of both passes through the model.

    Raises:
        ValueError: they differ, so the gradient would belong to other descriptors.
    """
    difference = float((again.detach() - first.detach()).abs().max())
    if difference > _REPLAY_TOLERANCE.get(first.dtype, 0.02):
        raise ValueError(
            f"the second pass through the model gave other descriptors than the first (by "
            f"{difference:.2g}): the model draws random numbers outside torch, or keeps state; "
            "use activations=store"
        )
