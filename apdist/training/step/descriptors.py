"""The descriptors of the global batch: each is written to its place, and lies nowhere else.

Shapes: n images in the global batch, b of them of this worker, c in a chunk, d descriptor size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from apdist.training.step.chunks import Chunk
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import BatchError, check_finite, check_shape


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
    def kind(self) -> int:
        """Width and precision as a number; 0 without an own row."""
        rows = self._rows
        return 0 if rows is None else 2 * rows.shape[1] + (rows.dtype == torch.float64)

    def add(self, found: Tensor, chunk: Chunk) -> None:
        """Write the descriptors (c, d) of the next ``chunk`` of this worker.

        Raises:
            ValueError: another shape.
        """
        width = found.shape[-1] if self._rows is None else self._rows.shape[1]
        check_shape(found, len(chunk.images), width)
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
            check_finite(torch.cat(self._finite))

    def gathered(self, kinds: Sequence[int], device: torch.device) -> Tensor:
        """Rows (n, d) of all workers, to the caller; ``kinds`` of all workers.

        Raises:
            BatchError: they differ in width or precision; on all workers.
        """
        found = {kind for kind in kinds if kind} or {0}
        if len(found) > 1:
            raise BatchError(
                "the workers' descriptors differ in width or precision (widths "
                f"{sorted(kind // 2 for kind in found)}); all must have the same network"
            )
        (kind,) = found
        rows, self._rows = self._rows, None
        if rows is None:
            dtype = torch.float64 if kind % 2 else torch.float32
            rows = torch.empty((sum(self.sizes), kind // 2), dtype=dtype, device=device)
        self.workers.fill_rows(rows, self.sizes)
        return rows
