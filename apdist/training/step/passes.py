"""The chunks of a worker through the model: in stage 1 to descriptors, in stage 3 backwards.

Shapes: b images on this worker, c in a chunk, d descriptor size.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch
from torch import Tensor, nn

from apdist.data.loading.feed import on_device
from apdist.training.step.activations import keeping
from apdist.training.step.batch_norm import ChunkStatistics
from apdist.training.step.chunks import Chunk
from apdist.training.step.descriptors import BatchDescriptors, check_replay
from apdist.training.step.options import StepOptions
from apdist.training.step.sharding import gathered


class Passes:
    """Both passes over the same chunks; to be closed.

    The images of a chunk are on their way to the device while the chunk before is computed with,
    and those of the first again while the batch is scored.

    Args:
        model: what describes.
        chunks: images where the batch lies.
        options: of the step.
        statistics: hears of every chunk.
        device: that of the model.
    """

    def __init__(
        self,
        model: nn.Module,
        chunks: Sequence[Chunk],
        options: StepOptions,
        statistics: ChunkStatistics,
        device: torch.device,
    ) -> None:
        self.model, self.chunks, self.options = model, chunks, options
        self.statistics, self.device = statistics, device
        self.described: list[Tensor | None] = []
        """Descriptors (c, d) of the first chunk, and of those whose graph is kept."""
        self._images = self._sent()

    def close(self) -> None:
        """Send no more chunks to the device."""
        self._images.close()

    def describe(self, descriptors: BatchDescriptors) -> None:
        """Stage 1: fill ``descriptors``.

        Raises:
            ValueError: the model gives no finite row an image.
        """
        kept_graphs = keeping(self.options.activations, self.model)
        with gathered(self.model, self.options.gather_once), self.statistics.recording():
            for chunk in self.chunks:
                with kept_graphs:
                    found = self._next(chunk, self.statistics.note_chunk)
                descriptors.add(found, chunk)
                kept = found.requires_grad or not self.described
                self.described.append(found if kept else None)
        descriptors.check()

    def backprop(self, gradient: Tensor) -> None:
        """Stage 3: the ``gradient`` (b, d) of the own descriptors through the model.

        Raises:
            ValueError: the second pass gives other descriptors than the first.
        """
        rows = gradient.split([chunk.num_images for chunk in self.chunks])
        with (
            gathered(self.model, self.options.gather_once) as sum_gradients,
            self.statistics.recording(),
            torch.enable_grad(),
        ):
            left = len(rows)
            for chunk, first, own in zip(self.chunks, self.described, rows, strict=True):
                left -= 1
                sum_gradients(left == 0)
                stored = first is not None and first.requires_grad
                again = first if stored else self._next(chunk)  # (c, d)
                assert again is not None
                if first is not None and not stored:
                    check_replay(first, again)
                again.backward(torch.zeros_like(again) if chunk.padding else own.to(again.dtype))

    def _next(self, chunk: Chunk, note: Callable[[], None] = lambda: None) -> Tensor:
        """Descriptors (c, d) of ``chunk``, whose images are the next that were sent."""
        return chunk.describe(self.model, next(self._images), self.options.bf16, note)

    def _sent(self) -> Generator[Tensor, None, None]:
        """The images of the chunks on the device, for one pass after the other.

        Each tensor is valid until the next is taken, but for those that a kept graph may hold.
        """
        twice = (*self.chunks, *self.chunks)
        if lies_on(self.device, self.chunks):
            yield from (chunk.images for chunk in twice)
            return
        is_kept = self.options.activations != "recompute"
        wanted = self.chunks if is_kept else twice
        parts = ((None, chunk.images) for chunk in wanted)
        with closing(on_device(parts, self.device)) as sent:
            for _, images in sent:
                yield images.clone() if is_kept else images


def lies_on(device: torch.device, chunks: Sequence[Chunk]) -> bool:
    """Whether the images of ``chunks`` are on ``device`` already."""
    return all(chunk.images.device == device for chunk in chunks)
