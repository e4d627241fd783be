"""The first pass over tiles: the histograms and intervals that it gives, by backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from apdist.config.loss import LossOptions
from apdist.loss.batch import checked_batch
from apdist.loss.gradient import ScoreCache, cumulative_histograms
from apdist.loss.kernels.products import Exact
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.tiles import Histograms, Tile
from tests.reference import bin_weights, unit_rows

FAST = ["tiled", "numba"]


def histograms_of(
    descriptors: Tensor,
    labels: Tensor,
    rows: slice | None = None,
    *,
    ignore: Tensor | None = None,
    **options: Any,
) -> tuple[Histograms, ScoreCache]:
    asked = LossOptions(check_norm=False, **options)
    batch = checked_batch(descriptors, labels, ignore, None, asked)
    return cumulative_histograms(batch, slice(0, len(labels)) if rows is None else rows)


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


@pytest.mark.parametrize("backend", FAST)
def test_codes_name_the_interval_of_each_score(backend: str) -> None:
    descriptors, labels = unit_rows(30, 4, seed=6), torch.arange(30) // 3
    bins: dict[str, Any] = {"num_bins": 6, "min_score": -0.3, "max_score": 0.4}
    _, seen = histograms_of(descriptors, labels, **bins, backend=backend, tile_size=30)
    (found,) = seen.codes
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
    _, seen = histograms_of(descriptors[:1024], labels[:1024], slice(0, 1023), **options)
    assert (seen.codes[0].numel() > 0) == kept
    _, seen = histograms_of(descriptors, labels, slice(0, 1024), **options)  # 1,024 bytes more
    assert seen.codes[0].numel() == 0


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(("tile_size", "num_tiles"), [(40, 1), (20, 3)])
def test_the_tile_that_was_seen_last_is_not_multiplied_again(
    backend: str, tile_size: int, num_tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(self: Exact, tile: Tile, out: Tensor) -> Tensor:
        calls.append(tile)
        return multiply(self, tile, out)

    multiply = Exact.scores
    monkeypatch.setattr(Exact, "scores", counted)
    descriptors = unit_rows(40, 4, seed=8).requires_grad_()
    loss = AveragePrecisionLoss(backend=backend, cache_mib=0, tile_size=tile_size)
    loss(descriptors, torch.arange(40) // 3).backward()
    assert calls == calls[:num_tiles] + calls[: num_tiles - 1]
