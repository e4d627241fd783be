"""Batch norm in a chunked step: statistics of each chunk, counted once, in chunk order.

The step runs every chunk twice and on any worker. Left alone, running statistics would move twice a
step and differ between workers. Here they are read off in the first pass, gathered, and applied in
the order of the chunks, so they do not depend on the number of workers.

A network has a hundred such tensors: they are handled together, a few launches a chunk on a GPU.

Shapes: k chunks, S statistics of all batch-norm layers together.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class ChunkStatistics:
    """Running statistics of the layers of ``model`` that normalise by the chunk."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = [
            m
            for m in model.modules()
            if isinstance(m, nn.modules.batchnorm._BatchNorm)
            and m.training
            and m.running_mean is not None
        ]
        # Through .data: a stored graph must not take a change for one of its own tensors.
        self.running = [part.data for layer in self.layers for part in _running(layer)]
        self.counts = [_count(layer) for layer in self.layers]
        self.tables: list[Tensor] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within it, running statistics are the last chunk's own; afterwards they are as before."""
        if not self.layers:
            yield
            return
        momenta = [layer.momentum for layer in self.layers]
        statistics, counts = torch.cat(self.running), torch.stack(self.counts)
        try:
            for layer in self.layers:
                layer.momentum = 1.0  # running = the chunk's
            yield
        finally:
            for layer, momentum in zip(self.layers, momenta, strict=True):
                layer.momentum = momentum
            torch._foreach_copy_(self.running, self._parts(statistics))
            torch._foreach_copy_(self.counts, list(counts))

    def note_chunk(self) -> None:
        """Keep the statistics of the chunk that has just gone through the model."""
        if self.layers:
            self.tables.append(torch.cat(self.running))

    def table(self) -> Tensor:
        """(k, S) statistics of this worker's chunks, in order."""
        if self.tables:
            return torch.stack(self.tables)
        return torch.cat(self.running).new_zeros((0, sum(part.numel() for part in self.running)))

    def apply(self, table: Tensor) -> None:
        """Move the running statistics by the chunks of all workers, ``table`` (k, S), in order.

            running <- (1 - m)^k running + sum over i of m (1 - m)^(k - 1 - i) table[i]

        which is what k moves by a momentum m come to; without one, the mean of all chunks so far.
        """
        num_chunks = len(table)
        moves: dict[tuple[float | None, int], list[int]] = {}
        for place, layer in enumerate(self.layers):
            seen = int(self.counts[place]) if layer.momentum is None else 0
            moves.setdefault((layer.momentum, seen), []).extend((2 * place, 2 * place + 1))
        for (momentum, seen), places in moves.items():
            kept, weights = _shares(momentum, seen, num_chunks)
            moved = torch.tensor(weights, dtype=torch.float64, device=table.device) @ table.double()
            parts = self._parts(moved)
            running = [self.running[place] for place in places]
            torch._foreach_mul_(running, kept)
            torch._foreach_add_(
                running, [parts[place].to(self.running[place].dtype) for place in places]
            )
        torch._foreach_add_(self.counts, num_chunks)

    def _parts(self, statistics: Tensor) -> list[Tensor]:
        """(S,) cut into those of each tensor."""
        return list(statistics.split([part.numel() for part in self.running]))


def _shares(momentum: float | None, seen: int, num_chunks: int) -> tuple[float, list[float]]:
    """Of the running statistics, and of each of some chunks, after ``seen`` others."""
    if momentum is None:
        total = seen + num_chunks
        return seen / total, [1 / total] * num_chunks
    left = 1 - momentum
    return left**num_chunks, [momentum * left**k for k in reversed(range(num_chunks))]


def _running(layer: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def _count(layer: nn.modules.batchnorm._BatchNorm) -> Tensor:
    assert layer.num_batches_tracked is not None
    return layer.num_batches_tracked
