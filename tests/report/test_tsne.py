"""t-SNE: its gradient, its affinities, and that what is alike lies close."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from apdist.report import tsne
from apdist.report.tsne import lay_out, principal_plane


def clusters(num: int = 4, each: int = 15) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(4)
    labels = np.arange(num * each) // each
    points = random.normal(size=(num, 16))[labels] + 0.2 * random.normal(size=(num * each, 16))
    return points / np.linalg.norm(points, axis=1, keepdims=True), labels


def nearest(points: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - points, axis=2)
    np.fill_diagonal(distances, np.inf)
    return distances.argmin(axis=1)


def test_the_gradient_is_that_of_the_divergence() -> None:
    generator = torch.Generator().manual_seed(1)
    wanted = torch.rand(6, 6, generator=generator, dtype=torch.float64).fill_diagonal_(0)
    wanted = (wanted + wanted.T) / (wanted + wanted.T).sum()
    places = torch.randn(6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    near = 1 / (1 + (places[:, None] - places[None]).square().sum(dim=2))
    near = near * (1 - torch.eye(6))
    off = ~torch.eye(6, dtype=torch.bool)
    (wanted[off] * (wanted[off] / (near / near.sum())[off]).log()).sum().backward()
    found = tsne._gradient(wanted.numpy(), places.detach().numpy())
    torch.testing.assert_close(torch.tensor(found), places.grad)


def test_affinities_are_those_of_a_search_for_the_perplexity_one_by_one() -> None:
    descriptors, _ = clusters(3, 6)
    squares = np.square(descriptors[:, None] - descriptors).sum(axis=2)
    rows = np.zeros((18, 18))
    for query in range(18):
        others = np.arange(18) != query
        low, high = 1e-6, 1e9
        for _ in range(200):
            precision = (low * high) ** 0.5
            likely = np.exp(-precision * (squares[query, others] - squares[query, others].min()))
            likely /= likely.sum()
            entropy = -(likely * np.log(np.maximum(likely, 1e-300))).sum()
            low, high = (precision, high) if entropy > np.log(17 / 3) else (low, precision)
        rows[query, others] = likely
    found = tsne._affinities(descriptors)
    np.testing.assert_allclose(found, (rows + rows.T) / 36, atol=1e-5)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_classes_stay_together_and_the_map_is_the_same_every_time() -> None:
    descriptors, labels = clusters()
    places = lay_out(descriptors)
    np.testing.assert_array_equal(places, lay_out(descriptors))
    assert (labels[nearest(places)] == labels).all()


def test_the_plane_of_pca_has_the_variances_of_the_two_longest_axes() -> None:
    points = np.random.default_rng(3).normal(size=(50, 5)) * [1.0, 4.0, 0.1, 2.0, 0.5]
    plane = principal_plane(points)
    expected = np.linalg.eigvalsh(np.cov(points.T))[:-3:-1]
    np.testing.assert_allclose(plane.var(axis=0, ddof=1), expected)
    assert (np.take_along_axis(plane, np.abs(plane).argmax(axis=0)[None], axis=0) > 0).all()


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_few_images_and_images_described_alike_have_finite_places(count: int) -> None:
    for descriptors in (np.eye(count, 4), np.ones((count, 1)), np.ones((count, 3))):
        places = lay_out(descriptors)
        assert places.shape == (count, 2)
        assert np.isfinite(places).all()
