"""What can go wrong on a worker: in which words it is told, and what is refused before it does.

`Guard` in collectives.py raises it on all workers.

Shapes: b images of a worker, c in a chunk, d descriptor size.
"""

import torch
from torch import Tensor, nn


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


def is_bad_input(error: Exception) -> bool:
    """Whether to try again would not help: bad input (a ValueError) or too little memory."""
    return isinstance(error, ValueError) or _is_shortage(error)


def text_of(error: Exception, advice: str) -> str:
    """What is told of ``error``; ``advice`` where memory is short."""
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
