"""Activation checkpointing by block (Chen et al., 2016): a graph keeps what enters a block only.

On the way back each block is computed again, with the random state and autocast of the first time.
Parameters and their names stay as they are.

Shapes: c images in a chunk, h x w pixels.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from apdist.training.step.activations import SavedTensors
from apdist.training.step.sharding import blocks_of


def checkpoint_blocks(network: nn.Module) -> int:
    """Have the blocks of ``network`` computed again on the way back, in place; how many it has."""
    blocks = [block for block in blocks_of(network, 1) if any(block.children())]
    for block in blocks:
        block.forward = _Recomputed(block.forward)
    return len(blocks)


def largest_block_bytes(network: nn.Module, images: Tensor) -> int:
    """Memory of the largest block's graph for ``images`` (c, 3, h, w), while it is there again.

    0 without activation checkpointing.
    """
    blocks = [m.forward for m in network.modules() if isinstance(m.forward, _Recomputed)]
    if not blocks:
        return 0
    largest = 0

    def measured(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
        nonlocal largest
        saved = SavedTensors(network)
        with saved:
            found = forward(*inputs, **named)
        largest = max(largest, saved.num_bytes)
        return found

    for block in blocks:
        block.run = measured
    try:
        with torch.enable_grad():
            network(images)
    finally:
        for block in blocks:
            block.run = _run_twice
    return largest


def _run_twice(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False, **named)


class _Recomputed:
    """The forward pass of a block."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward
        self.run: Callable[..., Any] = _run_twice

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """What the block makes of ``inputs``."""
        if not torch.is_grad_enabled():
            return self.forward(*inputs, **named)
        return self.run(self.forward, *inputs, **named)
