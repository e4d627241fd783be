"""From the histograms of a ranked list to its average precision, and the slopes of both.

Shapes: b queries, M bins, best score first.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from apdist.config.loss import Bins, Variant
from apdist.loss.batch import Batch
from apdist.loss.tiles import Histograms

# The published tie-aware code guards its two divisions by this; its figures depend on it.
_TIE_GUARD = 1e-8

_NUMBERS_AT_ONCE = 2**15
_NUMBERS_AT_ONCE_ON_GPU = 2**20


def bin_centres(bins: Bins) -> Tensor:
    """(M,) float64 scores of the centres, the best first."""
    return torch.linspace(bins.max_score, bins.min_score, bins.num_bins, dtype=torch.float64)


def bin_width(bins: Bins) -> float:
    """Distance of two neighbouring centres."""
    return (bins.max_score - bins.min_score) / (bins.num_bins - 1)


def average_precision_of_bins(positives: Tensor, everything: Tensor, variant: Variant) -> Tensor:
    """Average precision of ranked lists given as cumulative histograms; differentiable.

    With h the histogram of a cumulative histogram H, and ' the bin before (0 at the first):

        ap                    sum over bins of  h+ H+ / H
        tie_aware             sum over bins of  h+ (r + (H+' + 1 - r (H' + 1)) log(s) / h)
                              with r = max(h+ - 1, 0) / max(h - 1, 0), s = (H + 1) / (H' + 1)
        tie_aware_simplified  sum over bins of  h+ (H+' + H+ + 1) / (H' + H + 1)

    each divided by the number of positives. The first is that of Revaud et al., ICCV 2019; the
    others average over the orders of images in one bin (He et al., CVPR 2018).

    Args:
        positives: (b, M) H+, images of the query's class counted from the best score down.
        everything: (b, M) H, all images counted from the best score down.
        variant: which of them.

    Returns:
        (b,) in [0, 1]; NaN where there is no positive.
    """
    in_bin_positives, in_bin = _differences(positives), _differences(everything)
    if variant == "ap":
        terms = in_bin_positives * positives / _nonzero(everything)
    elif variant == "tie_aware":
        terms = _tie_aware_terms(positives, everything, in_bin_positives, in_bin)
    else:
        before_positives, before = positives - in_bin_positives, everything - in_bin
        terms = in_bin_positives * (before_positives + positives + 1) / (before + everything + 1)
    # The last entry counts every positive, wherever it lies: a constant, and a whole number.
    num_positives = positives[:, -1].detach().round()
    # Dividing by NaN would send NaN backward too, even to a sum that leaves the query out.
    return (terms.sum(dim=1) / _nonzero(num_positives)).where(num_positives > 0, torch.nan)


@dataclass(frozen=True)
class Tables:
    """What the histograms of the own rows say: average precision, its slopes, and sums."""

    averages: Tensor
    """(b,) float64 AP; NaN without positives."""

    counted: Tensor
    """(b,) float64 weights of the queries, 0 without positives."""

    slopes: Tensor
    """(b, 2, M-1) derivative of 1 - AP by the score of a negative, of a positive; by interval."""

    sums: Tensor
    """(NUM_SCALARS + 2M,) float64: weighted AP, weights, queries with positives, queries without,
    positives between two centres, those that lower AP, descriptors found to be too long or short;
    histograms of positives, of negatives.
    """


NUM_SCALARS = 7


def tables_of(histograms: Histograms, batch: Batch, rows: slice) -> Tables:
    """Tables of the own ``rows``."""
    options = batch.options
    averages, slopes = slopes_of_bins(
        histograms.positives, histograms.everything, options.variant, bin_width(options)
    )
    defined = ~averages.isnan()
    counted = batch.weights_of(rows).where(defined, 0.0)
    counts = histograms.positive_counts
    positive = _mass(histograms.positives)
    scalars = [
        (counted * averages.nan_to_num()).sum(),
        counted.sum(),
        defined.sum(),
        (~defined).sum(),
        counts.sum(),
        counts.where(slopes[:, 1] < 0, 0).sum(),
        _num_off_length(histograms.squares, batch.tolerance),
    ]
    negative = _mass(histograms.everything) - positive
    sums = torch.cat((torch.stack([value.double() for value in scalars]), positive, negative))
    return Tables(averages, counted, -slopes, sums)


def squares_of_length(tolerance: float) -> tuple[float, float]:
    """Least and largest square of a length that differs from 1 by ``tolerance`` at most."""
    largest = torch.finfo(torch.float32).max
    return max(0.0, 1 - tolerance) ** 2, min((1 + tolerance) ** 2, largest)


def _num_off_length(squares: Tensor, tolerance: float) -> Tensor:
    low, high = squares_of_length(tolerance)
    return (~((squares >= low) & (squares <= high))).sum()


def slopes_of_bins(
    positives: Tensor, everything: Tensor, variant: Variant, width: float
) -> tuple[Tensor, Tensor]:
    """Average precision, and how it changes with the score of one image, by interval of scores.

    A pair between the centres of bins u and u + 1 adds to H_u what its score exceeds the lower
    centre by, in units of the bin width, and a constant to the other entries. So

        negative: dAP/ds = (dAP/dH_u) / width,   positive: dAP/ds = (dAP/dH_u + dAP/dH+_u) / width

    Args:
        positives: (b, M) cumulative histogram of the positives, float64.
        everything: (b, M) cumulative histogram of all images, float64.
        variant: as in `average_precision_of_bins`.
        width: distance of neighbouring bin centres.

    Returns:
        (b,) AP; (b, 2, M-1) slopes of negatives and of positives, zero without positives.
    """
    # Blocks bound the memory; and on a CPU torch wakes no thread for so few numbers.
    at_once = _NUMBERS_AT_ONCE if positives.device.type == "cpu" else _NUMBERS_AT_ONCE_ON_GPU
    num_rows = max(1, at_once // positives.shape[1])
    slopes = _slopes_of_ap if variant == "ap" else functools.partial(_slopes_by_graph, variant)
    blocks = zip(torch.split(positives, num_rows), torch.split(everything, num_rows), strict=True)
    parts = [slopes(*block) for block in blocks]
    averages, by_positives, by_everything = (
        torch.cat(tables) for tables in zip(*parts, strict=True)
    )
    by_scores = torch.stack((by_everything, by_everything + by_positives), dim=1)[:, :, :-1]
    defined = positives[:, -1:, None] > 0
    return averages, (by_scores / width).where(defined, 0.0)


def _slopes_of_ap(positives: Tensor, everything: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """AP of variant "ap", and its derivatives by H+ and by H.

    With Q = h+ / H and P = H+ / H:   N dAP/dH_u = -Q_u P_u,   N dAP/dH+_u = Q_u + P_u - P_u+1
    """
    in_bin_positives, whole = _differences(positives), _nonzero(everything)
    precision, share = positives / whole, in_bin_positives / whole  # P, Q
    num_positives = positives[:, -1].round()
    defined, divisor = num_positives > 0, _nonzero(num_positives)
    averages = (in_bin_positives * precision).sum(dim=1) / divisor
    divisor = divisor[:, None]
    by_everything = share * precision / -divisor
    after = torch.nn.functional.pad(precision[:, 1:], (0, 1))
    by_positives = (share + precision - after) / divisor
    return averages.where(defined, torch.nan), by_positives, by_everything


def _slopes_by_graph(
    variant: Variant, positives: Tensor, everything: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """AP of any variant, and its derivatives by H+ and by H."""
    with torch.inference_mode(False), torch.enable_grad():
        # clone: a tensor made in inference mode cannot be saved for a backward pass.
        leaves = (positives.clone().requires_grad_(), everything.clone().requires_grad_())
        averages = average_precision_of_bins(*leaves, variant)
        by_positives, by_everything = torch.autograd.grad(averages.nansum(), leaves)
    return averages.detach(), by_positives, by_everything


def _tie_aware_terms(
    positives: Tensor, everything: Tensor, in_bin_positives: Tensor, in_bin: Tensor
) -> Tensor:
    before_positives, before = positives - in_bin_positives, everything - in_bin
    ratio = clipped(in_bin_positives - 1) / (clipped(in_bin - 1) + _TIE_GUARD)
    spread = torch.log((everything + 1) / (before + 1))
    inside = in_bin * ratio + (before_positives + 1 - ratio * (before + 1)) * spread
    return in_bin_positives * inside / (in_bin + _TIE_GUARD)


def clipped(values: Tensor, high: float = math.inf) -> Tensor:
    """``values`` within 0 and ``high``, of derivative 1 at both ends.

    That is ``clamp`` up to torch 2.13, of the published code; since 2.14 it has derivative 0 there.
    """
    inside = (values >= 0) & (values <= high)
    return values.where(inside, values.detach().clamp(0, high))


def _mass(cumulative: Tensor) -> Tensor:
    """(M,) all rows' histograms added up, from cumulative ones (b, M)."""
    total = cumulative.sum(dim=0)
    return torch.cat((total[:1], total.diff()))


def _differences(cumulative: Tensor) -> Tensor:
    return torch.cat((cumulative[:, :1], cumulative.diff(dim=1)), dim=1)


def _nonzero(counts: Tensor) -> Tensor:
    """Counts with 1 for an empty list, whose terms are 0 anyway."""
    return counts.where(counts > 0, 1.0)
