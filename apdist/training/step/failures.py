"""What can go wrong on a worker: in which words it is told, and what is refused before it does.

`Guard` in guard.py raises it on all workers.

Shapes: b images of a worker.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from apdist.training.step.options import StepOptions


class BatchError(ValueError):
    """A batch or an option that a worker cannot use; to try it again would not help."""


class ShortageError(BatchError):
    """Too little memory for a batch on a worker."""


class WorkerError(RuntimeError):
    """Something failed on a worker."""


def kind_of(error: Exception) -> type[Exception]:
    """As what all workers raise ``error`` of one."""
    if is_shortage(error):
        return ShortageError
    return BatchError if isinstance(error, ValueError) else WorkerError


def text_of(error: Exception, advice: str) -> str:
    """What is told of ``error``; ``advice`` where memory is short."""
    if is_shortage(error):
        return f"out of memory; {advice}"
    name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return f"{name}{error}"


def is_shortage(error: Exception) -> bool:
    """Whether ``error`` is one of too little memory."""
    # Allocation on the CPU fails with a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def shortage_advice(chunk_size: int, activations: str) -> str:
    """What to change where memory is short."""
    smaller = f"try {max(1, chunk_size // 4)}"
    other = "" if activations == "recompute" else " or activations=recompute"
    return f"chunk_size {chunk_size} does not fit: {smaller}{other}"


def check_kinds(model: object, images: object, labels: object, options: object) -> None:
    """Refuse what has no part of what the step asks of it; the same on every worker.

    Raises:
        ValueError: no module, no tensor, no options.
    """
    for name, value, kind, remedy in (
        ("model", model, nn.Module, "pass the network itself"),
        ("images", images, Tensor, "use torch.as_tensor"),
        ("labels", labels, Tensor, "use torch.as_tensor"),
        ("options", options, StepOptions, "use StepOptions(loss=..., chunk_size=...)"),
    ):
        if not isinstance(value, kind):
            raise ValueError(
                f"{name} must be a {kind.__name__}, got {type(value).__name__}; {remedy}"
            )


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


def check_sizes(sizes: Sequence[int], rank: int, num_workers: int, num_images: int) -> None:
    """Refuse sizes of all workers' parts that are not those of this batch.

    Raises:
        ValueError: another number of workers, or of images of this one.
    """
    if len(sizes) != num_workers or sizes[rank] != num_images:
        raise ValueError(
            f"worker_sizes {list(sizes)} must hold one number for each of {num_workers} workers, "
            f"that of its images; this one has {num_images}"
        )


def check_plans(plans: Sequence[Sequence[int]], chunk_size: int) -> None:
    """Refuse workers that number chunks or rows of a batch differently; on all alike.

    Args:
        plans: of every worker its images, the chunks before its own, and the images of all.
        chunk_size: images in a chunk.

    Raises:
        BatchError: they do not fit together.
    """
    sizes = [size for size, _, _ in plans]
    counts = [-(-size // chunk_size) for size in sizes]
    expected = [(size, sum(counts[:rank]), sum(sizes)) for rank, size in enumerate(sizes)]
    if [tuple(plan) for plan in plans] != expected:
        raise BatchError(
            f"the workers have {sizes} images, and not all of them were told so; "
            "pass the same worker_sizes on every worker"
        )
