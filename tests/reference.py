"""Slow definitions that the fast code is compared with: loops over plain numbers.

Shapes: q queries, n images, M bins.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def binned_average_precision(
    scores: list[float],
    positive: list[bool],
    *,
    num_bins: int = 20,
    score_range: tuple[float, float] = (-1.0, 1.0),
    variant: str = "ap",
) -> float:
    """Average precision of one ranked list whose scores are spread over bins; NaN if undefined.

    A score between two centres counts for both bins, in proportion to how near it is.
    """
    histogram, positives = [0.0] * num_bins, [0.0] * num_bins
    for score, is_positive in zip(scores, positive, strict=True):
        for bin_, weight in enumerate(bin_weights(score, num_bins, score_range)):
            histogram[bin_] += weight
            positives[bin_] += weight * is_positive
    num_positives = sum(positive)
    if num_positives == 0:
        return math.nan
    total, count, count_positives = 0.0, 0.0, 0.0
    for in_bin, in_bin_positives in zip(histogram, positives, strict=True):
        before, before_positives = count, count_positives
        count, count_positives = count + in_bin, count_positives + in_bin_positives
        if in_bin_positives == 0:
            continue
        if variant == "ap":
            precision = count_positives / count
        elif variant == "tie_aware_simplified":
            precision = (before_positives + count_positives + 1) / (before + count + 1)
        else:
            ratio = max(in_bin_positives - 1, 0) / (max(in_bin - 1, 0) + 1e-8)
            spread = math.log((count + 1) / (before + 1))
            precision = in_bin * ratio + (before_positives + 1 - ratio * (before + 1)) * spread
            precision /= in_bin + 1e-8
        total += in_bin_positives * precision
    return total / num_positives


def bin_weights(score: float, num_bins: int, score_range: tuple[float, float]) -> list[float]:
    """How much of a score goes to each bin: a triangle around each centre, the best bin first."""
    low, high = score_range
    width = (high - low) / (num_bins - 1)
    score = min(max(score, low), high)
    centres = [high - bin_ * width for bin_ in range(num_bins)]
    return [max(0.0, 1 - abs(score - centre) / width) for centre in centres]


def average_precision_of_batch(
    descriptors: Tensor,
    labels: Tensor,
    *,
    include_self: bool = False,
    ignore: Tensor | None = None,
    **bins: object,
) -> list[float]:
    """Binned average precision of each image of a batch as a query; NaN where undefined."""
    similarity = (descriptors @ descriptors.T).tolist()
    classes = labels.tolist()
    ids = [-1] * len(classes) if ignore is None else ignore.tolist()
    averages = []
    for i in range(len(classes)):
        listed = [
            j
            for j in range(len(classes))
            if (i != j or include_self)
            and not (ids[i] == ids[j] and ids[i] >= 0 and classes[i] != classes[j])
        ]
        scores = [similarity[i][j] for j in listed]
        positive = [classes[i] == classes[j] for j in listed]
        averages.append(binned_average_precision(scores, positive, **bins))  # type: ignore[arg-type]
    return averages


def mean_loss(averages: list[float], weights: list[float] | None = None) -> float:
    """1 - weighted mean of what is defined; 0 where nothing is."""
    weights = [1.0] * len(averages) if weights is None else weights
    defined = [(a, w) for a, w in zip(averages, weights, strict=True) if not math.isnan(a)]
    total = sum(w for _, w in defined)
    return 1 - sum(a * w for a, w in defined) / total if total > 0 else 0.0


def smooth_average_precision(
    scores: list[float], positive: list[bool], temperature: float
) -> float:
    """Smooth-AP of one list: each rank counts the others through a sigmoid."""
    precisions = []
    for i in range(len(scores)):
        if positive[i]:
            rank, rank_positive = 1.0, 1.0
            for j in range(len(scores)):
                if i != j:
                    above = 1 / (1 + math.exp(-_within_50((scores[j] - scores[i]) / temperature)))
                    rank += above
                    rank_positive += above * positive[j]
            precisions.append(rank_positive / rank)
    return sum(precisions) / len(precisions)


def _within_50(value: float) -> float:
    return min(max(value, -50.0), 50.0)


def unit_rows(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1).to(dtype)
