"""What stage 1 keeps of each chunk for stage 3: nothing, the graph, or the graph in host memory.

recompute   descriptors only; stage 3 goes through the model again (the paper: 4/3 of the work)
store       the graph of every chunk: one forward pass, memory of the whole batch
offload     the same with the saved tensors in host memory
"""

from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

Activations = Literal["recompute", "store", "offload"]

_SMALLEST_OFFLOADED_BYTES = 64 << 10


def keeping(activations: Activations, model: nn.Module) -> AbstractContextManager[object]:
    """The context in which stage 1 runs the chunks."""
    if activations == "recompute":
        return torch.no_grad()
    return torch.enable_grad() if activations == "store" else _Offloading(model)


class _Offloading(torch.autograd.graph.saved_tensors_hooks):
    """Moves what autograd saves to host memory and back when the backward pass wants it."""

    def __init__(self, model: nn.Module) -> None:
        # Autograd saves weights too: they stay, or each chunk would carry a copy of them all.
        self.weights = storages_of(model)
        super().__init__(self._pack, self._unpack)

    def _pack(self, saved: Tensor) -> tuple[torch.device, Tensor]:
        small = saved.nbytes < _SMALLEST_OFFLOADED_BYTES
        if small or saved.untyped_storage().data_ptr() in self.weights:
            # Detached: an output that its own node holds would never be freed.
            return saved.device, saved.detach()
        pinned = saved.device.type == "cuda"
        host = torch.empty_like(saved, device="cpu", pin_memory=pinned)  # with its strides
        host.copy_(saved)
        return saved.device, host

    def _unpack(self, packed: tuple[torch.device, Tensor]) -> Tensor:
        device, saved = packed
        return saved.to(device, non_blocking=True)


def storages_of(model: nn.Module) -> set[int]:
    """Addresses of the memory of all parameters and buffers."""
    tensors = (*model.parameters(), *model.buffers())
    return {_local(tensor).untyped_storage().data_ptr() for tensor in tensors}


def saved_bytes(model: nn.Module, images: Tensor) -> int:
    """Memory that the graph of ``images`` (c, 3, h, w) holds beyond the model's own."""
    weights = storages_of(model)
    found: dict[int, int] = {}

    def note(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return saved.detach()

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
        descriptors = model(images)  # held until the sum is taken, so that no address is used twice
    total = sum(found.values())
    del descriptors
    return total


def _local(tensor: Tensor) -> Tensor:
    """This worker's part of a sharded parameter."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
