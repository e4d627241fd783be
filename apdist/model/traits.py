"""What a backbone gives and what it was trained with.

Shapes: b images, c channels, h x w positions.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Features(NamedTuple):
    """What a backbone finds in images."""

    maps: Tensor
    """(b, c, h, w); of a transformer its patches after the final norm."""
    cls: Tensor | None = None
    """(b, c) class token after the final norm."""
    attended: Tensor | None = None
    """(b, c) from the model's own attention pooling."""


@dataclass(frozen=True, kw_only=True)
class Traits:
    """A backbone seen from outside: which pooling it admits, which pixels it wants."""

    num_channels: int
    """Channels of the feature map, c."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Of pixels in [0, 1], by colour."""
    std: tuple[float, ...] = IMAGENET_STD
    """Deviation of pixels in [0, 1], by colour."""
    side: int = 224
    """Of the images that it was trained with, in pixels; 0: any."""
    interpolation: str = "bicubic"
    """How its images were resized: a name of Pillow's filters."""
    stride: int = 0
    """Sides have to be multiples of it; 0: any side will do."""
    is_signed: bool = False
    """Whether features may be negative, so that a power of them has no gradient."""
    has_cls: bool = False
    """Whether it was trained with a class token."""
    has_attention: bool = False
    """Whether it has an attention pooling of its own."""


def refuse_side(backbone: str, traits: Traits, side: int) -> None:
    """Raise unless images of ``side`` pixels can be cut into the patches of ``backbone``.

    Raises:
        ValueError: the side is no multiple, with the two nearest that are.
    """
    if not traits.stride or (side and side % traits.stride == 0):
        return
    below = side - side % traits.stride
    nearest = [str(near) for near in (below, below + traits.stride) if near]
    own = f"; it was trained at {traits.side}" if traits.side else ""
    raise ValueError(
        f"data.image_size {side} is no multiple of {traits.stride}, the patch of model.backbone "
        f"{backbone}; the nearest are {' and '.join(nearest)}{own}"
    )
