"""What workers send each other. Every collective of the project is in this file.

Everything works in a single process too, where it communicates nothing. Gradients and losses are
summed, never averaged: the only division, by the number of queries, is global already.

Shapes: W workers, b rows on one worker, n = sum of b.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from apdist.training.step.sharding import is_sharded_tensor

# Before torch 2.13 it has another name.
_gather_in_place = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor


class Workers:
    """The workers of a process group, seen from one of them.

    Args:
        group: a process group; None means all workers, or this process alone where there is none.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        there = dist.is_available() and dist.is_initialized()
        self._has_cpu = there and "cpu" in dist.get_backend_config(group)
        self.rank: int = dist.get_rank(group) if there else 0
        self.size: int = dist.get_world_size(group) if there else 1
        self.num_bytes = 0
        """Received so far; an all-reduce counts as a ring: 2 (W - 1) / W of its size."""

    def sum(self, values: Tensor) -> Tensor:
        """Sum of ``values`` over the workers, the same on each."""
        if self.size > 1:
            values = values.clone()
            self._all_reduce(values)
        return values

    def gather_number_lists(self, numbers: Sequence[int], device: torch.device) -> list[list[int]]:
        """``numbers`` of every worker, by rank; all must pass equally many.

        They go from CPU to CPU where the group has a backend for that, so no device is waited for.
        """
        if self.size == 1:
            return [list(numbers)]
        own = torch.tensor(numbers, device="cpu" if self._has_cpu else device)
        gathered = own.new_empty((self.size, len(own)))
        dist.all_gather(list(gathered), own, group=self.group)
        self.num_bytes += gathered.nbytes - own.nbytes
        lists: list[list[int]] = gathered.tolist()
        return lists

    def gather_numbers(self, number: int, device: torch.device) -> list[int]:
        """``number`` of every worker, by rank."""
        return [only for (only,) in self.gather_number_lists([number], device)]

    def broadcast_number(self, number: int, device: torch.device) -> int:
        """``number`` of worker 0, on every worker."""
        return self.gather_numbers(number, device)[0]

    def gather_rows(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Rows (b, ...) of all workers under each other, (n, ...); ``sizes`` holds every b."""
        if self.size == 1:
            return rows
        gathered = rows.new_empty((sum(sizes), *rows.shape[1:]))
        gathered.split(list(sizes))[self.rank].copy_(rows)
        self.fill_rows(gathered, sizes)
        return gathered

    def fill_rows(self, rows: Tensor, sizes: Sequence[int]) -> None:
        """Write the rows of the others into ``rows`` (n, ...), where the own ones are in place.

        Nothing else of that size is held meanwhile, by this process or by the backend.
        """
        if self.size == 1:
            return
        parts = list(rows.split(list(sizes)))
        own = parts[self.rank]
        if not rows.is_cuda:
            # gloo gathers equal parts only, and holds all of them a second time.
            for rank, part in enumerate(parts):
                if len(part):
                    dist.broadcast(part, group=self.group, group_src=rank)
        elif len(set(sizes)) == 1:
            _gather_in_place(rows, own, group=self.group)
        else:
            dist.all_gather(parts, own, group=self.group)  # to NCCL a group of broadcasts
        self.num_bytes += rows.nbytes - own.nbytes

    def gather_texts(self, text: str, device: torch.device) -> list[str]:
        """``text`` of every worker."""
        data = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8).to(device)
        sizes = self.gather_numbers(len(data), device)
        parts = self.gather_rows(data, sizes).split(sizes)
        return [bytes(part.tolist()).decode().strip() for part in parts]

    def broadcast(self, values: Tensor) -> Tensor:
        """``values`` of worker 0, on every worker."""
        if self.size > 1:
            values = values.contiguous()
            dist.broadcast(values, group=self.group, group_src=0)
            self.num_bytes += values.nbytes if self.rank else 0
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum ``.grad`` over the workers in one coalesced all-reduce per dtype.

        A worker without a gradient (it had no chunk) contributes zeros, so that all send the same.
        """
        # The backward pass has summed the gradients of sharded parameters already.
        unsharded = [p for p in parameters if not is_sharded_tensor(p)]
        if self.size == 1:
            return
        for dtype in dict.fromkeys(p.dtype for p in unsharded):
            self._sum_gradients([p for p in unsharded if p.dtype == dtype])

    def _sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        self._all_reduce(flat)
        sums = flat.split([gradient.numel() for gradient in gradients])
        for parameter, gradient, total in zip(parameters, gradients, sums, strict=True):
            parameter.grad = gradient.copy_(total.view_as(gradient))

    def broadcast_state(self, module: nn.Module) -> None:
        """Give every worker the parameters and buffers of worker 0."""
        if self.size > 1:
            with torch.no_grad():
                for tensor in (*module.parameters(), *module.buffers()):
                    dist.broadcast(tensor.data, group=self.group, group_src=0)

    def _all_reduce(self, values: Tensor) -> None:
        dist.all_reduce(values, group=self.group)
        self.num_bytes += 2 * (self.size - 1) * values.nbytes // self.size
