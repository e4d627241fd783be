"""What workers tell each other. Every collective of the project is in this file.

Everything works in a single process too, where it communicates nothing. Gradients and losses are
summed, never averaged: the only division, by the number of queries, is global already.

Shapes: W workers, b rows on one worker, n = sum of b.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from apdist.training.step.failures import BatchError, WorkerError, is_bad_input, text_of

_FINE, _BAD_INPUT, _FAILED = 0, 1, 2


class Workers:
    """The workers of a process group, seen from one of them.

    Args:
        group: a process group; None means all workers, or this process alone where there is none.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self.group = group
        there = dist.is_available() and dist.is_initialized()
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

    def gather_numbers(self, number: int, device: torch.device) -> list[int]:
        """``number`` of every worker."""
        if self.size == 1:
            return [number]
        found = self._all_gather(torch.tensor([number], device=device))
        return [int(value) for value in found]

    def gather_rows(self, rows: Tensor, sizes: Sequence[int]) -> Tensor:
        """Rows (b, ...) of all workers under each other, (n, ...); ``sizes`` holds every b."""
        if self.size == 1:
            return rows
        # gloo refuses tensors of unequal size and NCCL may hang: pad to the largest.
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = self._all_gather(padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def gather_descriptors(
        self, rows: Tensor | None, sizes: Sequence[int], device: torch.device
    ) -> Tensor:
        """Descriptors (b, d) of all workers, (n, d), float64 or float32; without images None.

        Raises:
            ValueError: they differ in width or precision; on all workers.
        """
        kind = 0 if rows is None else 2 * rows.shape[1] + (rows.dtype == torch.float64)
        kinds = {kind for kind in self.gather_numbers(kind, device) if kind} or {0}
        if len(kinds) > 1:
            widths = sorted(kind // 2 for kind in kinds)
            raise ValueError(
                f"the workers' descriptors differ in width or precision (widths {widths}); "
                "all must have the same network"
            )
        (kind,) = kinds
        dtype = torch.float64 if kind % 2 else torch.float32
        own = torch.zeros((0, kind // 2), device=device) if rows is None else rows
        return self.gather_rows(own.to(dtype), sizes)

    def gather_texts(self, text: str, device: torch.device) -> list[str]:
        """``text`` of every worker."""
        data = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8).to(device)
        sizes = self.gather_numbers(len(data), device)
        parts = self.gather_rows(data, sizes).split(sizes)
        return [bytes(part.tolist()).decode().strip() for part in parts]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum ``.grad`` over the workers in one coalesced all-reduce per dtype.

        A worker without a gradient (it had no chunk) contributes zeros, so that all send the same;
        a parameter without one on all workers keeps none.
        """
        # The backward pass has summed the gradients of sharded parameters already.
        trainable = [p for p in parameters if p.requires_grad and not isinstance(p, DTensor)]
        if self.size == 1:
            return
        for dtype in dict.fromkeys(p.dtype for p in trainable):
            self._sum_gradients([p for p in trainable if p.dtype == dtype])

    def _sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        used = [float(p.grad is not None) for p in parameters]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        counts = gradients[0].new_tensor(used)
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), counts])
        self._all_reduce(flat)
        *sums, counts = flat.split([*(g.numel() for g in gradients), len(used)])
        for parameter, gradient, total, count in zip(
            parameters, gradients, sums, counts.tolist(), strict=True
        ):
            # As in one graph: a parameter that nobody used has no gradient, not one of zero.
            parameter.grad = gradient.copy_(total.view_as(gradient)) if count else None

    def broadcast_state(self, module: nn.Module) -> None:
        """Give every worker the parameters and buffers of worker 0."""
        if self.size > 1:
            with torch.no_grad():
                for tensor in (*module.parameters(), *module.buffers()):
                    dist.broadcast(tensor.data, group=self.group, group_src=0)

    def _all_reduce(self, values: Tensor) -> None:
        dist.all_reduce(values, group=self.group)
        self.num_bytes += 2 * (self.size - 1) * values.nbytes // self.size

    def _all_gather(self, values: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values, group=self.group)
        self.num_bytes += (self.size - 1) * values.nbytes
        return parts


class Guard:
    """What goes wrong on one worker is raised on all of them: nobody waits for one who is gone.

        with guard("to score the batch"):               # all raise, or none
            ... guard.before(workers.sum)(values) ...   # all have come as far, or all raise

    Args:
        workers: who takes part.
        device: where small tensors for the workers lie.
        where: what the blocks are part of, for messages.
        advice: what helps where memory is short.
    """

    def __init__(self, workers: Workers, device: torch.device, where: str, advice: str) -> None:
        self.workers, self.device, self.where, self.advice = workers, device, where, advice
        self._doing = ""

    @contextmanager
    def __call__(self, doing: str) -> Iterator[None]:
        """Run the block on every worker; if it raises on one, raise on all.

        All workers must enter it. It communicates once, when the block has ended.

        Args:
            doing: what the block does, for the message.

        Raises:
            BatchError: bad input (a ValueError) or too little memory, on any worker.
            WorkerError: any other exception, on any worker.
        """
        self._doing = doing
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # raised again below, on all workers alike
            if getattr(error, "is_shared", False):
                raise  # `before` inside the block has told everybody
            failure = error
        self._meet(failure)

    def before(self, collective: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """``collective`` inside a block, which the workers enter only when all have come as far."""

        def call(values: Tensor) -> Tensor:
            self._meet(None)
            return collective(values)

        return call

    def _meet(self, failure: Exception | None) -> None:
        """Tell each other whether all went well so far."""
        kind = _FINE
        if failure is not None:
            kind = _BAD_INPUT if is_bad_input(failure) else _FAILED
        kinds = self.workers.gather_numbers(kind, self.device)
        if not any(kinds):
            return
        text = text_of(failure, self.advice) if failure else ""
        texts = self.workers.gather_texts(text, self.device)
        rank = next(rank for rank, kind in enumerate(kinds) if kind)
        kind_raised = BatchError if kinds[rank] == _BAD_INPUT else WorkerError
        error = kind_raised(
            f"worker {rank} of {self.workers.size} failed {self._doing} {self.where}: {texts[rank]}"
        )
        error.is_shared = True
        raise error from failure
