"""What stage 1 keeps of each chunk for stage 3: nothing, the graph, or the graph in host memory.

recompute   descriptors only; stage 3 goes through the model again (the paper: 4/3 of the work)
store       the graph of every chunk: one forward pass, memory of the whole batch
offload     the same with the saved tensors in host memory, each of them once
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn

from apdist.training.step.offloading import Offloading, storages_of

Activations = Literal["recompute", "store", "offload"]


def keeping(activations: Activations, model: nn.Module) -> AbstractContextManager[object]:
    """The context in which stage 1 runs the chunks, entered anew for each."""
    if activations == "recompute":
        return torch.no_grad()
    return torch.enable_grad() if activations == "store" else Offloading(model)


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Memory that the graph of ``images`` (c, 3, h, w) holds beyond the model's own."""
    saved = SavedTensors(model)
    with torch.enable_grad(), saved:
        descriptors = model(images)  # held until the sum is taken, so that no address is used twice
    total = saved.num_bytes
    del descriptors
    return total


class SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd saves within the block, but for the parameters of ``model``."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = storages_of(model)
        self.found: dict[int, int] = {}
        super().__init__(self._note, lambda saved: saved)

    @property
    def num_bytes(self) -> int:
        """Memory of all of it."""
        return sum(self.found.values())

    def _note(self, saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in self.weights:
            self.found[storage.data_ptr()] = storage.nbytes()
        return saved.detach()
