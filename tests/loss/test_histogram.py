"""Tiles, and the histograms and intervals that the passes over them give."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from apdist.config.loss import LossOptions
from apdist.loss.batch import checked_batch
from apdist.loss.gradient import cumulative_histograms
from apdist.loss.tiles import Codes, Cut, Histograms, tiles_of
from tests.reference import bin_weights, unit_rows

FAST = ["tiled", "numba"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tests share the machine; threads that wait for each other on a busy core take seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def histograms_of(
    descriptors: Tensor,
    labels: Tensor,
    rows: slice | None = None,
    *,
    ignore: Tensor | None = None,
    **options: Any,
) -> tuple[Histograms, Codes]:
    asked = LossOptions(check_norm=False, **options)
    batch = checked_batch(descriptors, labels, ignore, None, asked)
    return cumulative_histograms(batch, slice(0, len(labels)) if rows is None else rows)


@pytest.mark.parametrize("n", [0, 1, 5, 600])
@pytest.mark.parametrize("tile_size", [1, 3, 512])
@pytest.mark.parametrize("part", ["all", "some", "none"])
def test_tiles_and_their_mirror_images_cover_the_own_rows_once(
    n: int, tile_size: int, part: str
) -> None:
    if n * n / tile_size > 1e4:
        tile_size = 300
    rows = {"all": slice(0, n), "some": slice(n // 3, n // 2), "none": slice(n // 2, n // 2)}[part]
    covered = np.zeros((n, n), int)
    for tile in tiles_of(n, rows, Cut(tile_size, 2 * tile_size)):
        assert tile.shape[0] <= tile_size
        assert tile.shape[1] <= 2 * tile_size
        covered[tile.rows, tile.columns] += 1
        if tile.mirrored:
            covered[tile.columns, tile.rows] += 1
    expected = np.zeros((n, n), int)
    expected[rows] = 1
    assert (covered == expected).all()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("include_self", [False, True])
@pytest.mark.parametrize("rows", [slice(0, 40), slice(7, 31)])
def test_histograms_are_those_of_the_slow_definition(
    backend: str, include_self: bool, rows: slice
) -> None:
    descriptors, labels = unit_rows(40, 5, seed=0), torch.arange(40) % 9
    ignore = torch.arange(40) % 4 - 1
    bins: dict[str, Any] = {"num_bins": 7, "min_score": -0.5, "max_score": 0.9}
    found, _ = histograms_of(
        descriptors,
        labels,
        rows,
        ignore=ignore,
        include_self=include_self,
        **bins,
        backend=backend,
        tile_size=11,
    )
    everything, positives = torch.zeros(40, 7).double(), torch.zeros(40, 7).double()
    for i in range(40):
        for j in range(40):
            junk = ignore[i] == ignore[j] >= 0 and labels[i] != labels[j]
            if junk or (i == j and not include_self):
                continue
            score = (descriptors[i] @ descriptors[j]).item()
            weights = torch.tensor(bin_weights(score, 7, (-0.5, 0.9)), dtype=torch.float64)
            everything[i] += weights
            positives[i] += weights * (labels[i] == labels[j])
    torch.testing.assert_close(found.everything, everything.cumsum(1)[rows], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.positives, positives.cumsum(1)[rows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", FAST)
def test_positive_counts_are_the_positives_of_each_interval(backend: str) -> None:
    descriptors, labels = unit_rows(50, 4, seed=1), torch.arange(50) % 6
    for include_self in (False, True):
        found, _ = histograms_of(
            descriptors, labels, backend=backend, tile_size=16, include_self=include_self
        )
        scores = (descriptors @ descriptors.T).numpy()
        for i in range(50):
            others = (labels == labels[i]).numpy() & (np.arange(50) != i)
            expected, _ = np.histogram(scores[i, others], bins=np.linspace(-1, 1, 20))
            assert found.positive_counts[i].tolist() == expected[::-1].tolist()


@pytest.mark.parametrize("backend", FAST)
def test_row_of_131072_scores_is_counted_without_loss(backend: str) -> None:
    n = 131_072
    descriptors = unit_rows(n, 3, seed=2, dtype=torch.float32)
    labels = (torch.arange(n) % 2).long()
    rows = slice(5, 7)
    found, _ = histograms_of(descriptors, labels, rows, backend=backend, tile_size=4096)
    scores = descriptors[rows] @ descriptors.T
    places = (1 - scores.double()) / (2 / 19)
    places[:, rows].fill_diagonal_(math.inf)
    positive = labels[rows, None] == labels
    for u in range(20):
        share = (u + 1 - places).clamp(0, 1)
        # Each of 131,072 shares is known to one part in two million.
        expected = share.sum(dim=1)
        torch.testing.assert_close(found.everything[:, u], expected, rtol=0, atol=2e-3)
        torch.testing.assert_close(
            found.positives[:, u], (share * positive).sum(dim=1), rtol=0, atol=2e-3
        )
    assert found.everything[:, -1].tolist() == [n - 1] * 2


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


@pytest.mark.parametrize("backend", FAST)
def test_codes_name_the_interval_of_each_score(backend: str) -> None:
    descriptors, labels = unit_rows(30, 4, seed=6), torch.arange(30) // 3
    bins: dict[str, Any] = {"num_bins": 6, "min_score": -0.3, "max_score": 0.4}
    _, codes = histograms_of(descriptors, labels, **bins, backend=backend, tile_size=30)
    (found,) = codes
    scores = (descriptors @ descriptors.T).numpy()
    expected = np.digitize(-scores, -np.linspace(0.4, -0.3, 6))
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("num_bins", "cache_mib", "kept"), [(255, 1, True), (256, 1, False), (255, 0, False)]
)
def test_codes_are_kept_only_within_the_budget_and_a_byte(
    num_bins: int, cache_mib: int, kept: bool
) -> None:
    descriptors, labels = unit_rows(1025, 4, seed=7), torch.arange(1025) // 3
    options: dict[str, Any] = {"num_bins": num_bins, "cache_mib": cache_mib, "tile_size": 1024}
    _, codes = histograms_of(descriptors[:1024], labels[:1024], slice(0, 1023), **options)
    assert (codes[0].numel() > 0) == kept
    _, codes = histograms_of(descriptors, labels, slice(0, 1024), **options)  # 1,024 bytes more
    assert codes[0].numel() == 0


def test_kernels_compile_where_no_cache_folder_is_writable() -> None:
    code = (
        "from apdist.loss.kernels import numba_types as types\n"
        "function = types.compiled(lambda x: x + 1)\n"
        "assert function(1) == 2\n"
    )
    # A locator that serves zip archives finds no folder for our files.
    environment = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    done = subprocess.run([sys.executable, "-c", code], timeout=100, check=False, env=environment)
    assert done.returncode == 0
