"""The descriptors of the global batch: each is written to its place, and lies nowhere else.

What the model has to give is checked here: one finite row an image, the same in both passes.

Shapes: n images in the global batch, b of them of this worker, c in a chunk, d descriptor size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from apdist.training.step.chunks import Chunk
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import BatchError

# What a second pass through the model may differ by; bf16 is only repeatable to about this.
_REPLAY_TOLERANCE = {torch.float64: 1e-6, torch.float32: 0.02}


class BatchDescriptors:
    """Descriptors (n, d), float64 or float32: the own rows as they are found, then the others'.

    Args:
        sizes: b of every worker.
        workers: who describes its rows.
    """

    def __init__(self, sizes: Sequence[int], workers: Workers) -> None:
        self.sizes, self.workers = sizes, workers
        self._rows: Tensor | None = None
        self._next = sum(sizes[: workers.rank])
        self._finite: list[Tensor] = []

    @property
    def format_code(self) -> int:
        """Width and precision as one number, to compare with others'; 0 without an own row."""
        return _format_code(self._rows)

    def add(self, found: Tensor, chunk: Chunk) -> None:
        """Write the descriptors (c, d) of the next ``chunk`` of this worker.

        Raises:
            ValueError: another shape.
        """
        width = found.shape[-1] if self._rows is None else self._rows.shape[1]
        _check_shape(found, len(chunk.images), width)
        if chunk.padding:
            return
        if self._rows is None:
            dtype = torch.float64 if found.dtype == torch.float64 else torch.float32
            self._rows = found.new_empty((sum(self.sizes), width), dtype=dtype)
        end = self._next + len(found)
        self._rows[self._next : end] = found.detach()
        self._finite.append(found.detach().isfinite().all(dim=1))  # (c,)
        self._next = end

    def check(self) -> None:
        """Look at the own rows once, when all are there.

        Raises:
            ValueError: one is not finite.
        """
        if self._finite:
            _check_finite(torch.cat(self._finite))

    def gathered(self, format_codes: Sequence[int], device: torch.device) -> Tensor:
        """Rows (n, d) of all workers, handed over; ``format_codes`` are those of all workers.

        Raises:
            BatchError: they differ in width or precision; on all workers.
        """
        width, dtype = _agreed_format(format_codes)
        rows, self._rows = self._rows, None
        if rows is None:
            rows = torch.empty((sum(self.sizes), width), dtype=dtype, device=device)
        self.workers.fill_rows(rows, self.sizes)
        return rows


def gather_descriptors(
    own: Tensor | None, sizes: Sequence[int], workers: Workers, device: torch.device
) -> Tensor:
    """Rows (n, d) of all workers, float64 or float32, from the ``own`` (b, d); None without images.

    Raises:
        BatchError: they differ in width or precision; on all workers.
    """
    width, dtype = _agreed_format(workers.gather_numbers(_format_code(own), device))
    rows = torch.empty((0, width), device=device) if own is None else own
    return workers.gather_rows(rows.to(dtype), sizes)


def _format_code(rows: Tensor | None) -> int:
    """Width and precision of ``rows`` (b, d) as one number; 0 without a row."""
    return 0 if rows is None else 2 * rows.shape[1] + (rows.dtype == torch.float64)


def _agreed_format(codes: Sequence[int]) -> tuple[int, torch.dtype]:
    """Width and precision of the descriptors, from the format ``codes`` of all workers.

    Raises:
        BatchError: they differ; on all workers.
    """
    found = {code for code in codes if code} or {0}
    if len(found) > 1:
        raise BatchError(
            "the workers' descriptors differ in width or precision (widths "
            f"{sorted(code // 2 for code in found)}); all must have the same network"
        )
    (code,) = found
    return code // 2, torch.float64 if code % 2 else torch.float32


def _check_shape(descriptors: Tensor, num_images: int, width: int) -> None:
    """Refuse ``descriptors`` of so many images that are not one row each, of that ``width``.

    Raises:
        ValueError: another shape.
    """
    if descriptors.dim() != 2 or descriptors.shape != (num_images, width):
        raise ValueError(
            f"the model must map {num_images} images to {num_images} descriptors (c, d), of the "
            f"same size in every chunk, got shape {tuple(descriptors.shape)}"
        )


def _check_finite(finite: Tensor) -> None:
    """Refuse descriptors that cannot be scored; ``finite`` (b,) says which can.

    Raises:
        ValueError: a value is NaN or infinite; names the first image.
    """
    bad = (~finite).nonzero()[:, 0]
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
    if not difference <= _REPLAY_TOLERANCE.get(first.dtype, 0.02):  # also if it is NaN
        raise ValueError(
            f"the second pass through the model gave other descriptors than the first (by "
            f"{difference:.2g}): the model draws random numbers outside torch, or keeps state; "
            "use activations=store"
        )
