"""Memory of decoded pictures: so many pixels at once, and given back to the system after."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from apdist.serving.limits import Budget

_LARGE = 10_000_000
"""Pixels of a picture after which free memory is given back."""


class DecodingRoom:
    """Where pictures are decoded, of uploads and of the index.

    A large one is decoded alone: it takes 10 bytes for each pixel, 24 where it is transparent.

    Args:
        pixels: of all pictures that are decoded at once.
    """

    def __init__(self, pixels: int) -> None:
        self._pixels = Budget(pixels)

    @contextmanager
    def held(self, pixels: int) -> Iterator[None]:
        """Inside, a picture of ``pixels`` may be decoded; who comes when there is no room waits."""
        with self._pixels.held(pixels):
            try:
                yield
            finally:
                if pixels > _LARGE:
                    _give_back_memory()


def _give_back_memory() -> None:
    """Else the C library keeps, for each decoding thread, as much as its largest picture took."""
    with suppress(AttributeError, OSError):  # it is glibc's
        ctypes.CDLL(None).malloc_trim(0)
