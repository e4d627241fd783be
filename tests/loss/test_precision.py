"""Average precision and its slopes, from the histograms of ranked lists."""

import math

import pytest
import torch
from torch import Tensor

from apdist.config.loss import Variant
from apdist.loss.precision import (
    average_precision_of_bins,
    clipped,
    slopes_of_bins,
    squares_of_length,
)


def histograms() -> tuple[Tensor, Tensor]:
    """H+ and H (5, 7), cumulative; a bin without an image, and in the last row no positive."""
    random = torch.Generator().manual_seed(0)
    positives = torch.rand(5, 7, generator=random, dtype=torch.float64)
    positives = positives / positives.sum(dim=1, keepdim=True) * 3
    negatives = 4 * torch.rand(5, 7, generator=random, dtype=torch.float64)
    positives[:, 2], negatives[:, 2], positives[4] = 0, 0, 0
    return positives.cumsum(1), (positives + negatives).cumsum(1)


def test_with_one_image_a_bin_it_is_the_average_precision_of_the_list() -> None:
    listed = torch.tensor([[1.0, 0, 1, 0, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]).double()
    everything = torch.ones_like(listed).cumsum(1)
    found = average_precision_of_bins(listed.cumsum(1), everything, "ap")
    expected = [(1 + 2 / 3 + 3 / 5) / 3, 1 / 5, torch.nan]
    torch.testing.assert_close(found.tolist(), expected, rtol=0, atol=1e-12, equal_nan=True)


def test_ties_are_counted_as_the_slow_definitions_say() -> None:
    positives_of_bins, images_of_bins = [1, 0, 1, 0, 2], [2, 1, 3, 0, 2]
    tie_aware = simplified = 0.0
    above_positives = above = 0  # H+' and H'
    for h_positives, h in zip(positives_of_bins, images_of_bins, strict=True):
        if h:
            ratio = max(h_positives - 1, 0) / max(h - 1, 1)
            spread = math.log((above + h + 1) / (above + 1)) / h
            inside = ratio + (above_positives + 1 - ratio * (above + 1)) * spread
            tie_aware += h_positives * inside / 4
        both = 2 * above_positives + h_positives + 1  # H+' + H+ + 1
        simplified += h_positives * both / (2 * above + h + 1) / 4
        above_positives, above = above_positives + h_positives, above + h
    counts = torch.tensor([positives_of_bins, images_of_bins]).double()
    positives, everything = counts.cumsum(1)[:, None]  # (1, 5) each
    found = average_precision_of_bins(positives, everything, "tie_aware").item()
    assert found == pytest.approx(tie_aware, abs=1e-6)
    found = average_precision_of_bins(positives, everything, "tie_aware_simplified").item()
    assert found == pytest.approx(simplified, abs=1e-12)


@pytest.mark.parametrize("variant", ["ap", "tie_aware", "tie_aware_simplified"])
def test_slopes_are_those_of_moving_one_image_a_little(variant: Variant) -> None:
    positives, everything = histograms()
    averages, slopes = slopes_of_bins(positives, everything, variant, width=0.5)
    expected = average_precision_of_bins(positives, everything, variant)
    torch.testing.assert_close(averages, expected, rtol=0, atol=1e-12, equal_nan=True)
    step = 1e-6  # of a score: it moves step / width of an image over the centre
    for u in (0, 3, 5):
        for kind in (0, 1):
            move = torch.zeros_like(positives)
            move[:, u] = step / 0.5
            ends = [
                average_precision_of_bins(
                    positives + s * kind * move, everything + s * move, variant
                )
                for s in (1, -1)
            ]
            found = (ends[0] - ends[1]) / (2 * step)
            torch.testing.assert_close(found[:4], slopes[:4, kind, u], rtol=0, atol=1e-6)
    assert not slopes[4].any()


def test_squares_of_lengths_are_never_below_0_nor_infinite() -> None:
    assert squares_of_length(0.5) == (0.25, 2.25)
    low, high = squares_of_length(float("inf"))
    assert low == 0
    assert high == torch.finfo(torch.float32).max


def test_clipped_values_have_the_published_derivative_at_both_ends() -> None:
    leaf = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    found = clipped(leaf, 1)
    found.sum().backward()
    assert found.tolist() == [0, 0, 0.5, 1, 1]
    # Not that of torch.clamp, which is 0 at the ends since torch 2.14.
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [0, 1, 1, 1, 0]
