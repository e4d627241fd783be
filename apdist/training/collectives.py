"""What workers tell each other. Every collective of the project is in this file.

Each function works in a single process too, where it communicates nothing. Gradients and losses
are summed, never averaged: the only division, by the number of queries, is global already.

Shapes: W workers, b rows on one worker, n = sum of b.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def rank_and_size() -> tuple[int, int]:
    """This worker's number and the number of workers W."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_workers(values: Tensor) -> Tensor:
    """Sum of ``values`` over the workers, the same on each."""
    if dist.is_initialized():
        values = values.clone()
        dist.all_reduce(values)
    return values


def gather_sizes(size: int, device: torch.device) -> list[int]:
    """``size`` of every worker."""
    _, num_workers = rank_and_size()
    if num_workers == 1:
        return [size]
    sizes = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(num_workers)]
    dist.all_gather(sizes, torch.tensor([size], device=device))
    return [int(s) for s in sizes]


def gather_rows(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """Rows (b, ...) of all workers under each other, (n, ...); ``sizes`` holds every b."""
    if len(sizes) == 1:
        return rows
    # gloo refuses tensors of unequal size and NCCL may hang: pad to the largest.
    padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:size] for part, size in zip(gathered, sizes, strict=True)])


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum ``.grad`` over the workers in one coalesced all-reduce per dtype.

    A worker without a gradient (it had no chunk) contributes zeros, so that all send the same.
    """
    trainable = [p for p in parameters if p.requires_grad]
    for parameter in trainable:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if not dist.is_initialized():
        return
    for dtype in dict.fromkeys(p.dtype for p in trainable):
        gradients = [p.grad for p in trainable if p.dtype == dtype and p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()


def broadcast_state(module: nn.Module) -> None:
    """Give every worker the parameters and buffers of worker 0."""
    if dist.is_initialized():
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                dist.broadcast(tensor.data, src=0)
