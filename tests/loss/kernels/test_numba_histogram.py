"""The compiled histograms against those of plain torch, by any tiles and threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.loss.test_gradient import histograms_of
from tests.reference import unit_rows


def exact_batch(n: int) -> tuple[Tensor, Tensor]:
    """Descriptors whose float32 products are exact in any order."""
    rows = torch.randint(-8, 9, (n, 6), generator=torch.Generator().manual_seed(3))
    return rows.float() / 32, torch.arange(n) % (n // 4)


@pytest.mark.parametrize("tile_size", [64, 250, 1100])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_compiled_histograms_depend_on_neither_tiles_nor_threads(
    tile_size: int, num_threads: int
) -> None:
    descriptors, labels = exact_batch(1300)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        found, _ = histograms_of(descriptors, labels, backend="numba", tile_size=tile_size)
    finally:
        torch.set_num_threads(before)
    expected, _ = histograms_of(descriptors, labels, backend="numba", tile_size=333)
    assert torch.equal(found.everything, expected.everything)
    assert torch.equal(found.positives, expected.positives)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_bins", [2, 3, 20, 255, 300, 3000])
def test_compiled_and_plain_histograms_agree_for_any_number_of_bins(
    num_bins: int, dtype: torch.dtype
) -> None:
    descriptors, labels = unit_rows(300, 4, seed=4, dtype=dtype), torch.arange(300) // 3
    options: dict[str, Any] = {"num_bins": num_bins, "tile_size": 128}
    found, _ = histograms_of(descriptors, labels, backend="numba", **options)
    expected, _ = histograms_of(descriptors, labels, backend="tiled", **options)
    tolerance = 1e-9 if dtype == torch.float64 else 1e-6 * num_bins * 300
    torch.testing.assert_close(found.everything, expected.everything, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.positives, expected.positives, rtol=0, atol=tolerance)


@pytest.mark.parametrize("labels", [torch.zeros(70).long(), torch.arange(70), -torch.arange(70)])
@pytest.mark.parametrize("ignore", [torch.zeros(70).long(), torch.arange(70) % 3 - 1])
def test_one_class_or_all_alone_or_all_junk_is_counted_alike(
    labels: Tensor, ignore: Tensor
) -> None:
    descriptors = unit_rows(70, 4, seed=5)
    found, _ = histograms_of(descriptors, labels, ignore=ignore, backend="numba", tile_size=32)
    expected, _ = histograms_of(descriptors, labels, ignore=ignore, backend="tiled", tile_size=32)
    torch.testing.assert_close(found.everything, expected.everything, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.positives, expected.positives, rtol=0, atol=1e-12)
