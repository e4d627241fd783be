"""Parts of a batch that a CPU computes fastest.

Shapes: b images of a batch, side h x w.
"""

import torch
from torch import Tensor, nn

_PIXELS = 8 * 224 * 224
"""What layers make of more leaves the cache, and the system clears new memory for it each time."""


def pieces(images: Tensor) -> tuple[Tensor, ...]:
    """Parts of ``images`` (b, 3, h, w) for one pass each: on a CPU small ones, else the whole."""
    if images.device.type != "cpu":
        return (images,)
    parts: tuple[Tensor, ...] = images.split(fastest_size(images.shape[-2], images.shape[-1]))
    return parts


def fastest_size(height: int, width: int) -> int:
    """Images of that size, in pixels, that a CPU describes fastest together."""
    return max(1, _PIXELS // (height * width))


def in_pieces(network: nn.Module, images: Tensor) -> Tensor:
    """Descriptors (b, d) of ``images`` (b, 3, h, w), which do not depend on each other's."""
    return torch.cat([network(piece) for piece in pieces(images)])
