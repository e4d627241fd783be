"""Memory for whole batches of decoded images, used again and again; loader processes share it.

Shapes: b images, s side in pixels. A buffer is (b, 3, s, s) uint8.
"""

import errno
import itertools
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

_NUMBERS = itertools.count()


class Buffer:
    """Room for the images of one batch, in memory without a name: a crash leaves none behind."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.number, self.shape = next(_NUMBERS), shape
        self.descriptor = _anonymous_file(int(np.prod(shape)))
        self.images = mapped(self.descriptor, shape)

    def close(self) -> None:
        """Give it back; the memory goes with the last tensor that looks at it."""
        self.images = np.empty(0, np.uint8)
        os.close(self.descriptor)


class BufferPool:
    """Buffers that are used again and again; made when first wanted."""

    def __init__(self) -> None:
        self.free: list[Buffer] = []
        self.all: list[Buffer] = []

    def acquire(self, shape: tuple[int, ...]) -> Buffer:
        """A buffer of ``shape``."""
        for place, buffer in enumerate(self.free):
            if buffer.shape == shape:
                return self.free.pop(place)
        self.all.append(Buffer(shape))
        return self.all[-1]

    def release(self, buffer: Buffer) -> None:
        """Put a buffer back."""
        self.free.append(buffer)

    def close(self) -> None:
        """Give all of them back."""
        for buffer in self.all:
            buffer.close()


def mapped(descriptor: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The memory of an open file as an array of ``shape``."""
    size = int(np.prod(shape))
    memory = mmap.mmap(descriptor, max(size, 1))
    return np.frombuffer(memory, np.uint8, size).reshape(shape)


def _anonymous_file(size: int) -> int:
    """Descriptor of memory that is allocated, not only promised.

    Raises:
        ValueError: there is not enough; writing to it would kill the process.
    """
    if hasattr(os, "memfd_create"):  # unlike /dev/shm it is not limited to 64 MiB in a container
        descriptor = os.memfd_create("apdist-batch")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        os.ftruncate(descriptor, max(size, 1))
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, max(size, 1))
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        raise ValueError(
            f"no memory for a batch of {size >> 20} MiB of images; lower --data.read-ahead-mib "
            "or --training.batch-size"
        ) from error
    return descriptor
