"""Batch norm in a chunked step: statistics of each chunk, counted once, in chunk order.

The step runs every chunk twice and on any worker. Left alone, running statistics would move twice a
step and differ between workers. Here they are read off in the first pass, gathered, and applied in
the order of the chunks, so they do not depend on the number of workers.

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
        self.tables: list[Tensor] = []

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Within it, running statistics are the last chunk's own; afterwards they are as before."""
        before = [(m.momentum, *_running(m)) for m in self.layers]
        counts = [_count(m).clone() for m in self.layers]
        saved = [(mean.clone(), var.clone()) for _, mean, var in before]
        try:
            for layer in self.layers:
                layer.momentum = 1.0  # running = the chunk's
            yield
        finally:
            for layer, (momentum, mean, var), (old_mean, old_var), count in zip(
                self.layers, before, saved, counts, strict=True
            ):
                layer.momentum = momentum
                # Through .data: a stored graph must not take this for a change of its own tensors.
                mean.data.copy_(old_mean)
                var.data.copy_(old_var)
                _count(layer).copy_(count)

    def note_chunk(self) -> None:
        """Keep the statistics of the chunk that has just gone through the model."""
        if self.layers:
            self.tables.append(torch.cat([t.clone() for m in self.layers for t in _running(m)]))

    def table(self) -> Tensor:
        """(k, S) statistics of this worker's chunks, in order."""
        if self.tables:
            return torch.stack(self.tables)
        like, _ = _running(self.layers[0])
        return like.new_zeros((0, sum(2 * m.num_features for m in self.layers)))

    def apply(self, table: Tensor) -> None:
        """Move the running statistics by the chunks of all workers, ``table`` (k, S), in order."""
        for row in table:
            offset = 0
            for layer in self.layers:
                count = _count(layer)
                count += 1
                share = 1 / int(count) if layer.momentum is None else layer.momentum
                for running in _running(layer):
                    running.lerp_(row[offset : offset + running.numel()].to(running.dtype), share)
                    offset += running.numel()


def _running(layer: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def _count(layer: nn.modules.batchnorm._BatchNorm) -> Tensor:
    assert layer.num_batches_tracked is not None
    return layer.num_batches_tracked
