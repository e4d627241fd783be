"""What goes wrong on one worker is raised on all of them: nobody waits for one who is gone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from apdist.training.step.collectives import Workers


class BatchError(ValueError):
    """A batch or an option that a worker cannot use; to try it again would not help."""

    is_shared = False
    """Whether all workers raise it."""


class WorkerError(RuntimeError):
    """Something failed on a worker."""

    is_shared = False
    """Whether all workers raise it."""


# What a second pass through the model may differ by; bf16 is only repeatable to about this.
_REPLAY_TOLERANCE = {torch.float64: 1e-6, torch.float32: 0.02}
_FINE, _BAD_INPUT, _FAILED = 0, 1, 2


@contextmanager
def together(workers: Workers, device: torch.device, doing: str, advice: str) -> Iterator[None]:
    """Run the block on every worker; if it raises on one, raise on all.

    All workers must enter it. It communicates once, when the block has ended.

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
        if getattr(error, "is_shared", False):
            raise  # `meet` inside the block has told everybody
        failure = error
    meet(workers, device, doing, advice, failure)


def meet(
    workers: Workers, device: torch.device, doing: str, advice: str, failure: Exception | None
) -> None:
    """Tell each other whether all went well so far, at the end of a block or before a collective.

    Raises:
        BatchError: a worker met bad input or too little memory.
        WorkerError: a worker met any other exception.
    """
    kinds = workers.gather_numbers(_FINE if failure is None else _kind(failure), device)
    if not any(kinds):
        return
    texts = workers.gather_texts(_text(failure, advice) if failure else "", device)
    rank = next(rank for rank, kind in enumerate(kinds) if kind)
    kind_raised = BatchError if kinds[rank] == _BAD_INPUT else WorkerError
    error = kind_raised(f"worker {rank} of {workers.size} failed {doing}: {texts[rank]}")
    error.is_shared = True
    raise error from failure


def after(
    meet: Callable[[], None], collective: Callable[[Tensor], Tensor]
) -> Callable[..., Tensor]:
    """``collective`` that the workers enter only when all have come as far."""

    def call(values: Tensor) -> Tensor:
        meet()
        return collective(values)

    return call


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


def check_arguments(
    images: Tensor, labels: Tensor, ignore: Tensor | None, model: nn.Module
) -> None:
    """Refuse what would fail only after the workers have met.

    Raises:
        ValueError: not one integer label (and id) per image, or nothing to train.
    """
    for name, values in (("labels", labels), ("ignore", ignore)):
        if values is None:
            continue
        if values.shape != images.shape[:1] or values.is_floating_point():
            raise ValueError(
                f"{name} must be {len(images)} integers, one per image, "
                f"got {values.dtype} of shape {tuple(values.shape)}"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("no parameter of the model is trainable; set requires_grad")


def check_descriptors(descriptors: list[Tensor], images: list[int]) -> None:
    """Refuse descriptors, (c, d) of each chunk of so many images, that cannot be scored.

    Raises:
        ValueError: another shape, or a value that is not finite; names the first image.
    """
    first = 0
    for chunk, number in zip(descriptors, images, strict=True):
        if chunk.dim() != 2 or len(chunk) != number:
            raise ValueError(
                f"the model must map {number} images to {number} descriptors (c, d), "
                f"got shape {tuple(chunk.shape)}"
            )
        bad = (~chunk.isfinite().all(dim=1)).nonzero()[:, 0]
        if len(bad):
            raise ValueError(
                f"{len(bad)} descriptors are NaN or infinite, the first is that of its image "
                f"{first + int(bad[0])}; lower the learning rate, or look at that image"
            )
        first += number


def check_replay(first: Tensor, again: Tensor) -> None:
    """Compare the descriptors (c, d) of both passes through the model.

    Raises:
        ValueError: they differ, so the gradient would belong to other descriptors.
    """
    difference = float((again.detach() - first.detach()).abs().max())
    if not difference <= _REPLAY_TOLERANCE.get(first.dtype, 0.02):  # also if it is NaN
        raise ValueError(
            f"the second pass through the model gave other descriptors than the first (by "
            f"{difference:.2g}): the model draws random numbers outside torch, or keeps state; "
            "use activations=store"
        )
