"""Statistics that are taken block by block: those of all rows at once."""

import itertools

import pytest
import torch
from torch import Tensor

from apdist.model.moments import Moments
from apdist.model.whitening import (
    Whitening,
    learn_pca_whitening,
    learn_supervised_whitening,
    pca_whitening_of,
    supervised_whitening_of,
)

LABELS = torch.arange(600) // 3


def data() -> Tensor:
    """Descriptors (600, 5) far from their origin, correlated."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(600, 5, generator=generator, dtype=torch.float64)
    mixing = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    centres = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    return noise @ mixing + 2 * centres[LABELS] + 1e3


def in_blocks(size: int, labels: Tensor | None = LABELS) -> Moments:
    moments = Moments(5)
    for start in range(0, 600, size):
        part = None if labels is None else labels[start : start + size]
        moments.add(data()[start : start + size], part)
    return moments


def assert_same(found: Whitening, expected: Whitening) -> None:
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.projection, expected.projection, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("size", [7, 60, 600])
def test_blocks_have_the_moments_of_all_rows(size: int) -> None:
    moments, rows = in_blocks(size, None), data()
    assert moments.count == 600
    torch.testing.assert_close(moments.mean, rows.mean(dim=0), rtol=1e-12, atol=0)
    torch.testing.assert_close(moments.covariance(), torch.cov(rows.T, correction=0))
    about = torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(
        moments.covariance(around=about), (rows - 1).T @ (rows - 1) / 600, rtol=1e-10, atol=0
    )
    expected = learn_pca_whitening(rows, num_components=3)
    assert_same(pca_whitening_of(moments, num_components=3), expected)


@pytest.mark.parametrize("size", [60, 600])
def test_whitening_of_blocks_is_that_of_all_their_ordered_pairs(size: int) -> None:
    pairs = [
        (3 * number + a, 3 * number + b)
        for number, (a, b) in itertools.product(range(200), itertools.permutations(range(3), 2))
    ]
    moments = in_blocks(size)
    assert moments.num_pairs == len(pairs)
    expected = learn_supervised_whitening(data(), torch.tensor(pairs))
    assert_same(supervised_whitening_of(moments), expected)


def test_classes_of_several_sizes_weigh_as_many_as_their_pairs() -> None:
    labels = torch.tensor([0, 0, 1, 2, 2, 2, 2])
    rows = data()[:7]
    moments = Moments(5)
    moments.add(rows, labels)
    pairs = [(a, b) for a in range(7) for b in range(7) if a != b and labels[a] == labels[b]]
    first, second = (rows[list(side)] for side in zip(*pairs, strict=True))
    torch.testing.assert_close(moments.mean_of_pairs, first.mean(dim=0))
    differences = first - second
    torch.testing.assert_close(moments.spread, differences.T @ differences / len(pairs))


@pytest.mark.parametrize("size", [1, 3, 7])
def test_pairs_across_blocks_count_where_the_sizes_of_classes_are_known(size: int) -> None:
    labels = torch.tensor([2, 0, 1, 2, 2, 0, 2])
    rows = data()[:7] - 1e3
    moments = Moments(5, sizes=labels.bincount())
    for start in range(0, 7, size):
        moments.add(rows[start : start + size], labels[start : start + size])
    pairs = [(a, b) for a in range(7) for b in range(7) if a != b and labels[a] == labels[b]]
    first, second = (rows[list(side)] for side in zip(*pairs, strict=True))
    assert moments.num_pairs == len(pairs)
    torch.testing.assert_close(moments.mean_of_pairs, first.mean(dim=0))
    differences = first - second
    torch.testing.assert_close(moments.spread, differences.T @ differences / len(pairs))


def test_descriptors_behind_a_layer_norm_are_whitened_in_their_plane() -> None:
    rows = torch.nn.functional.layer_norm((data() - 1e3).float(), (5,))
    moments = Moments(5)
    moments.add(rows, LABELS)
    weight = supervised_whitening_of(moments, num_components=4).projection
    torch.testing.assert_close(weight @ moments.spread @ weight.T, torch.eye(4).double())
    with pytest.raises(ValueError, match="vary along 4 of 5 dimensions, too few for 5"):
        supervised_whitening_of(moments)


def test_descriptors_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        Moments(2).add(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="expected descriptors .n, d."):
        Moments(2).add(torch.ones(2))
