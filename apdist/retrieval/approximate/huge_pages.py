"""Memory that is read here and there, in pages of 2 MiB.

With small pages the processor looks for where one lies as long as for what is in it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

_COLLAPSE = 25
"""``MADV_COLLAPSE`` of Linux 6.1, which `mmap` does not name: now, not at some time."""


def into_huge_pages(address: int, num_bytes: int) -> None:
    """Ask the system to move memory into huge pages; what it holds, and how much, stays the same.

    A system that does not know of them, or has none left, changes nothing.

    Args:
        address: where it begins.
        num_bytes: how long it is.
    """
    if sys.platform != "linux":
        return
    first = -(-address // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (address + num_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last <= first:
        return
    library = ctypes.CDLL(None)
    place = ctypes.c_void_p(first), ctypes.c_size_t(last - first)
    for advice in (mmap.MADV_HUGEPAGE, _COLLAPSE):
        library.madvise(*place, advice)
