"""What stage 1 keeps of each chunk for stage 3: nothing, the graph, or the graph in host memory.

recompute   descriptors only; stage 3 goes through the model again (the paper: 4/3 of the work)
store       the graph of every chunk: one forward pass, memory of the whole batch
offload     the same with the saved tensors in host memory, each of them once
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.multiprocessing.reductions import StorageWeakRef

Activations = Literal["recompute", "store", "offload"]

_SMALLEST_OFFLOADED_BYTES = 64 << 10
# Views that lie between a weight's copy in another precision and what uses it.
_VIEWS = {"TBackward0", "TransposeBackward0", "ViewBackward0", "PermuteBackward0"}


def keeping(activations: Activations, model: nn.Module) -> AbstractContextManager[object]:
    """The context in which stage 1 runs the chunks."""
    if activations == "recompute":
        return torch.no_grad()
    return torch.enable_grad() if activations == "store" else _Offloading(model)


@dataclass
class _Packed:
    """A saved tensor: somewhere, and how it lies there."""

    place: Tensor
    """On the device itself, or a copy in host memory with the same strides."""
    device: torch.device
    storage: StorageWeakRef | None = None
    """Of what was copied. While it is held, no other storage has its address."""
    uses: int = 0
    """Nodes of the graph that have not asked for it."""
    back: Tensor | None = None
    """On its device again, until the last has asked."""

    def unpacked(self) -> Tensor:
        found = self.place.to(self.device, non_blocking=True) if self.back is None else self.back
        self.uses -= 1
        self.back = found if self.uses > 0 else None
        return found


class _Offloading(torch.autograd.graph.saved_tensors_hooks):
    """Moves what autograd saves to host memory and back when the backward pass wants it.

    Autograd saves an output that is the input of the next layer twice; it travels once. Weights
    stay, and of their copies in autocast's precision, which every chunk makes anew, one does.
    """

    def __init__(self, model: nn.Module) -> None:
        self.weights = storages_of(model)
        self.parameters = {id(parameter) for parameter in model.parameters()}
        self.packed: dict[tuple[Any, ...], _Packed] = {}
        super().__init__(self._pack, _Packed.unpacked)

    def _pack(self, saved: Tensor) -> _Packed:
        storage = saved.untyped_storage()
        if saved.nbytes < _SMALLEST_OFFLOADED_BYTES or storage.data_ptr() in self.weights:
            # Detached: an output that its own node holds would never be freed.
            return _Packed(saved.detach(), saved.device, uses=1)
        shape = (saved.shape, saved.stride(), saved.storage_offset(), saved.dtype)
        if weight := self._weight_of(saved):
            return self._once((weight, *shape), lambda: _Packed(saved.detach(), saved.device))
        # The version tells what was overwritten in between.
        key = (storage._cdata, saved._version, *shape)
        return self._once(
            key, lambda: _Packed(_on_host(saved), saved.device, StorageWeakRef(storage))
        )

    def _once(self, key: tuple[Any, ...], pack: Callable[[], _Packed]) -> _Packed:
        if key not in self.packed:
            self.packed[key] = pack()
        self.packed[key].uses += 1
        return self.packed[key]

    def _weight_of(self, saved: Tensor) -> int:
        """Which parameter ``saved`` is a copy of, or a view of a copy; 0 for none."""
        node: Any = saved.grad_fn
        while node is not None and node.name() in _VIEWS:
            node = node.next_functions[0][0]
        if node is None or node.name() != "ToCopyBackward0":
            return 0
        variable = getattr(node.next_functions[0][0], "variable", None)
        return id(variable) if id(variable) in self.parameters else 0


def _on_host(saved: Tensor) -> Tensor:
    """A copy, with its strides; a GPU makes it when it has come so far, and nobody waits."""
    pinned = saved.device.type == "cuda"
    host = torch.empty_like(saved, device="cpu", pin_memory=pinned)
    return host.copy_(saved.detach(), non_blocking=True)


def storages_of(model: nn.Module) -> set[int]:
    """Addresses of the memory of all parameters and buffers."""
    tensors = (*model.parameters(), *model.buffers())
    return {_local(tensor).untyped_storage().data_ptr() for tensor in tensors}


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


def _local(tensor: Tensor) -> Tensor:
    """This worker's part of a sharded parameter."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
