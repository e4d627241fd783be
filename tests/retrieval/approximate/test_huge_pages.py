"""Memory moves into huge pages, and stays what it is."""

import sys
from pathlib import Path

import numpy as np
import pytest

from apdist.retrieval.approximate.huge_pages import into_huge_pages

MADE = 32 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are Linux's")
def test_memory_moves_and_stays_what_it_is() -> None:
    # Arrays that NumPy makes are in huge pages from the start.
    numbers = np.frombuffer(bytearray(MADE), dtype=np.int64)
    numbers[:] = np.arange(len(numbers))
    before = huge_kib()
    into_huge_pages(numbers.ctypes.data + 24, MADE - 48)  # no page begins there
    assert np.array_equal(numbers, np.arange(MADE // 8))
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if before is None or not switch.exists() or "[never]" in switch.read_text():
        pytest.skip("this system has no huge pages, or does not tell of them")
    after = huge_kib()
    assert after is not None
    assert after > before


@pytest.mark.parametrize("num_bytes", [0, 1, 4000])
def test_less_than_a_page_is_left_alone(num_bytes: int) -> None:
    numbers = np.zeros(4096, dtype=np.uint8)
    into_huge_pages(numbers.ctypes.data + 1, num_bytes)
    assert not numbers.any()


def huge_kib() -> int | None:
    """Of this process, in huge pages."""
    status = Path("/proc/self/smaps_rollup")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("AnonHugePages")), None)
