"""What autograd saves, in host memory: it leaves a GPU while the next layers are computed.

In the backward pass it comes back ahead of need, in the order in which it is asked for: chunk by
chunk, of each the last first. Both ways a stream of its own copies, and events say when memory may
be used again. On its way is no more than `_BYTES_ON_THE_WAY`, or one tensor.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from apdist.data.loading.feed import Streams, streams_of
from apdist.training.step.sharding import local_part

_SMALLEST_OFFLOADED_BYTES = 64 << 10
_BYTES_ON_THE_WAY = 512 << 20
# Views that lie between a weight's copy in another precision and what uses it.
_VIEWS = {"TBackward0", "TransposeBackward0", "ViewBackward0", "PermuteBackward0"}


@dataclass(eq=False)
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
    arrived: Any = None
    """Event: ``back`` holds the values."""


class Offloading(torch.autograd.graph.saved_tensors_hooks):
    """Moves what autograd saves to host memory and back when the backward pass wants it.

    Autograd saves an output that is the input of the next layer twice; it travels once. Weights
    stay, and of their copies in autocast's precision, which every chunk makes anew, one does.

    Args:
        model: whose weights they are.
    """

    def __init__(self, model: nn.Module) -> None:
        self.weights = storages_of(model)
        self.parameters = {id(parameter) for parameter in model.parameters()}
        self.packed: dict[tuple[Any, ...], _Packed] = {}
        self.streams = dict[torch.device, Streams | None]()
        self.leaving = deque[tuple[Tensor, int, Any, Streams]]()
        """Tensors that are copied from, their versions, and the ends of the copies."""
        self.chunks: list[list[_Packed]] = []
        """What has travelled, in the order in which it left."""
        self.wanted = deque[_Packed]()
        """What the backward pass has not asked for, in its order."""
        self.ahead: list[_Packed] = []
        """What is back, or on its way, and nobody has asked for."""
        super().__init__(self._pack, self._unpack)

    def __enter__(self) -> None:
        """Begin with a chunk."""
        self.chunks.append([])
        super().__enter__()

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
        return self._once(key, lambda: self._sent_away(saved, StorageWeakRef(storage)))

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

    def _sent_away(self, saved: Tensor, storage: StorageWeakRef) -> _Packed:
        """A copy of ``saved`` in host memory: at once, or when the device has come so far."""
        host = torch.empty_like(saved, device="cpu", pin_memory=saved.is_cuda)
        packed = _Packed(host, saved.device, storage)
        streams, values = self._streams(saved.device), saved.detach()
        if streams is None:
            host.copy_(values)
            return packed
        _follow(streams, streams.copying, streams.computing)
        streams.copy(host, values)
        copied = streams.event()
        streams.record(copied, streams.copying)
        self.leaving.append((values, values._version, copied, streams))
        self.chunks[-1].append(packed)
        while len(self.leaving) > 1 and _num_bytes(self.leaving) > _BYTES_ON_THE_WAY:
            self._let_go()
        return packed

    def _streams(self, device: torch.device) -> Streams | None:
        if device not in self.streams:
            self.streams[device] = streams_of(device)
        return self.streams[device]

    def _let_go(self) -> None:
        """Free the device's memory of the tensor that left first.

        Raises:
            RuntimeError: it was overwritten meanwhile, which autograd does not allow either.
        """
        values, version, copied, streams = self.leaving.popleft()
        streams.synchronize(copied)
        if values._version != version:
            raise RuntimeError(
                f"a tensor of shape {tuple(values.shape)} that the backward pass needs was "
                "overwritten by an operation in place while it was copied; use "
                "training.activations recompute, or a network without that operation"
            )

    def _unpack(self, packed: _Packed) -> Tensor:
        streams = self.streams.get(packed.device)
        if packed.storage is None or streams is None:
            found = packed.place if packed.back is None else packed.back
            if found.device != packed.device:
                found = found.to(packed.device)
        else:
            found = self._back(packed, streams)
        packed.uses -= 1
        packed.back = found if packed.uses > 0 else None
        return found

    def _back(self, packed: _Packed, streams: Streams) -> Tensor:
        """The values of ``packed`` on its device; those that are wanted next are on their way."""
        self._turn_round()
        if packed.back is None:
            self._fetch(packed, streams)
        else:
            self.ahead = [other for other in self.ahead if other is not packed]
        assert packed.back is not None
        streams.wait(packed.arrived, streams.computing)
        found = packed.back
        while self.wanted:
            following = self.wanted[0]
            if following is not packed and following.back is None and following.uses > 0:
                waiting = sum(other.place.nbytes for other in self.ahead)
                if self.ahead and waiting + following.place.nbytes > _BYTES_ON_THE_WAY:
                    break
                self._fetch(following, streams)
                self.ahead.append(following)
            self.wanted.popleft()
        return found

    def _turn_round(self) -> None:
        """All has left; from now on it is asked for."""
        if not self.chunks:
            return
        while self.leaving:
            self._let_go()
        self.wanted.extend(packed for chunk in self.chunks for packed in reversed(chunk))
        self.chunks.clear()
        self.packed.clear()  # the graph alone holds them from here on

    def _fetch(self, packed: _Packed, streams: Streams) -> None:
        packed.back = torch.empty_like(packed.place, device=packed.device)
        # What had this memory before may be computed with.
        _follow(streams, streams.copying, streams.computing)
        streams.copy(packed.back, packed.place)
        packed.arrived = streams.event()
        streams.record(packed.arrived, streams.copying)


def _follow(streams: Streams, later: Any, earlier: Any) -> None:
    """Let what comes into the queue ``later`` wait for what is in ``earlier`` now."""
    reached = streams.event()
    streams.record(reached, earlier)
    streams.wait(reached, later)


def _num_bytes(leaving: deque[tuple[Tensor, int, Any, Streams]]) -> int:
    return sum(values.nbytes for values, *_ in leaving)


def storages_of(model: nn.Module) -> set[int]:
    """Addresses of the memory of all parameters and buffers."""
    tensors = (*model.parameters(), *model.buffers())
    return {local_part(tensor).untyped_storage().data_ptr() for tensor in tensors}
