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


def calibration(
    similarity: list[list[float]],
    classes: list[int],
    positive_margin: float,
    negative_margin: float,
) -> float:
    """Mean shortfall of the positive pairs that have one, and mean excess of the negative ones."""
    short, over = [], []
    for i, row in enumerate(similarity):
        for j, score in enumerate(row):
            if i != j and classes[i] == classes[j]:
                short.append(positive_margin - score)
            elif i != j:
                over.append(score - negative_margin)
    means = []
    for values in (short, over):
        counted = [value for value in values if value > 0]
        means.append(sum(counted) / len(counted) if counted else 0.0)
    return sum(means)


def softmax_with_centres(logits: list[list[float]], places: list[int]) -> float:
    """Mean cross-entropy of the rows of ``logits`` with their ``places``."""
    losses = []
    for row, place in zip(logits, places, strict=True):
        most = max(row)
        losses.append(math.log(sum(math.exp(x - most) for x in row)) + most - row[place])
    return sum(losses) / len(losses)


def arcface(cosines: list[list[float]], places: list[int], margin: float, scale: float) -> float:
    """The angle to the own centre grows by the margin, as far as a half turn."""
    rows = [list(row) for row in cosines]
    for row, place in zip(rows, places, strict=True):
        angle = math.acos(row[place])
        if angle + margin <= math.pi:
            row[place] = math.cos(angle + margin)
        else:
            row[place] -= margin * math.sin(margin)
    return softmax_with_centres([[scale * x for x in row] for row in rows], places)


def cosface(cosines: list[list[float]], places: list[int], margin: float, scale: float) -> float:
    """The cosine of the own centre falls by the margin."""
    rows = [
        [scale * (x - margin * (number == place)) for number, x in enumerate(row)]
        for row, place in zip(cosines, places, strict=True)
    ]
    return softmax_with_centres(rows, places)


def proxy_anchor(
    cosines: list[list[float]], places: list[int], margin: float, alpha: float
) -> float:
    """Each centre with the images of its class, in the batch; and with all others."""
    pulls, pushes = [], []
    for number in range(len(cosines[0])):
        own = [row[number] for row, place in zip(cosines, places, strict=True) if place == number]
        others = [
            row[number] for row, place in zip(cosines, places, strict=True) if place != number
        ]
        if own:
            pulls.append(math.log(1 + sum(math.exp(-alpha * (s - margin)) for s in own)))
        pushes.append(math.log(1 + sum(math.exp(alpha * (s + margin)) for s in others)))
    return sum(pulls) / len(pulls) + sum(pushes) / len(pushes)


def unit_rows(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Random unit vectors."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1).to(dtype)
