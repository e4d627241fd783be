"""Who makes training images, by a name with versions: other versions give other pixels.

The driver of a run resolves ``auto`` once; the name decides what is learned, so it is kept in
config.json and is part of the hash. Whoever makes images for the run must be of that name.

Importing this must stay cheap: OpenCV is imported where it is chosen.
"""

from collections.abc import Callable

import numpy as np
import PIL
from numpy.typing import NDArray

from apdist.config import AugmentConfig, Config, override
from apdist.config.extras import install
from apdist.data.augmentation import training_image
from apdist.data.storage.process_cache import cached_per_process

FAST = "simplejpeg"
EXTRA = install("fast-decode")

Fill = Callable[[NDArray[np.uint8], "bytes | memoryview", AugmentConfig, int], None]
"""Writes the training image of encoded bytes, by augmentation and seed, into (3, s, s) uint8."""


def resolved(decoder: str) -> str:
    """``decoder`` with the versions that are here; the same where it has them already.

    Args:
        decoder: what `DataConfig.decoder` may be.

    Raises:
        ValueError: it is not here, or in other versions.
    """
    if decoder == "auto":
        return _fast_name() or _pillow_name()
    here = _pillow_name()
    if decoder.startswith(FAST):
        here = _fast_name() or f"{here} alone"
        if decoder == FAST and not here.startswith(FAST):
            raise ValueError(
                f"data.decoder {FAST} needs simplejpeg and OpenCV, which cannot be imported here; "
                f"{EXTRA}, or use --data.decoder pillow"
            )
    if decoder in (FAST, "pillow", here):
        return here
    raise ValueError(
        f"data.decoder is {decoder}, and here is {here}, which makes other pixels; install those "
        f"versions ({EXTRA} has the packages), or train another run with --data.decoder auto (at "
        "the checkpoint of a run: --resume RUN --fork --data.decoder auto)"
    )


def with_versions(config: Config) -> Config:
    """``config`` with its decoder `resolved`.

    Raises:
        ValueError: it is not here, or in other versions.
    """
    return override(config, {"data.decoder": resolved(config.data.decoder)})


@cached_per_process
def fill_of(decoder: str) -> Fill:
    """What makes the training images of ``decoder``.

    Raises:
        ValueError: it is not here, or in other versions.
    """
    if not resolved(decoder).startswith(FAST):
        return _fill_with_pillow
    from apdist.data.fast_decoding import fill_fast, use_one_thread

    use_one_thread()
    return fill_fast


def _fill_with_pillow(
    out: NDArray[np.uint8], data: bytes | memoryview, augment: AugmentConfig, seed: int
) -> None:
    out[:] = training_image(data, out.shape[-1], augment, seed)


def _pillow_name() -> str:
    return f"pillow-{PIL.__version__}"


def _fast_name() -> str:
    """Empty where a package is missing, or does not fit this machine."""
    try:
        import cv2
        import simplejpeg
    except ImportError:
        return ""
    # Pillow makes the images that simplejpeg leaves to it.
    return f"{FAST}-{simplejpeg.__version__}+opencv-{cv2.__version__}+{_pillow_name()}"
