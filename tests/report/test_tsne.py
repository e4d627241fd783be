"""t-SNE: its gradient, its affinities, and that what is alike lies close."""

from __future__ import annotations

import pytest
import torch

from apdist.report import tsne
from apdist.report.tsne import lay_out, principal_plane


def clusters(num: int = 4, each: int = 15) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(num * each) // each
    points = torch.randn(num, 16, generator=generator)[labels]
    points = points + 0.2 * torch.randn(num * each, 16, generator=generator)
    return torch.nn.functional.normalize(points, dim=1), labels


def test_the_gradient_is_that_of_the_divergence() -> None:
    generator = torch.Generator().manual_seed(1)
    wanted = torch.rand(6, 6, generator=generator, dtype=torch.float64).fill_diagonal_(0)
    wanted = (wanted + wanted.T) / (wanted + wanted.T).sum()
    places = torch.randn(6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    near = 1 / (1 + (places[:, None] - places[None]).square().sum(dim=2))
    near = near * (1 - torch.eye(6))
    off = ~torch.eye(6, dtype=torch.bool)
    (wanted[off] * (wanted[off] / (near / near.sum())[off]).log()).sum().backward()
    torch.testing.assert_close(tsne._gradient(wanted, places.detach()), places.grad)


def test_affinities_have_the_perplexity_before_they_are_made_symmetric() -> None:
    descriptors, labels = clusters()
    found = tsne._affinities(descriptors)
    assert float(found.sum()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(found, found.T)
    same = labels[:, None] == labels
    assert float(found[same].sum()) > 0.6


def test_classes_stay_together_and_the_map_is_the_same_every_time() -> None:
    descriptors, labels = clusters()
    places = lay_out(descriptors)
    assert torch.equal(places, lay_out(descriptors))
    nearest = torch.cdist(places, places).fill_diagonal_(torch.inf).argmin(dim=1)
    assert bool((labels[nearest] == labels).all())


def test_the_plane_of_pca_has_the_variances_of_the_two_longest_axes() -> None:
    generator = torch.Generator().manual_seed(3)
    points = torch.randn(50, 5, generator=generator) * torch.tensor([1.0, 4.0, 0.1, 2.0, 0.5])
    plane = principal_plane(points)
    expected = torch.linalg.eigvalsh(torch.cov(points.T)).flip(0)[:2]
    torch.testing.assert_close(plane.var(dim=0), expected, rtol=1e-4, atol=0)
    far = plane.gather(0, plane.abs().argmax(dim=0, keepdim=True))
    assert bool((far > 0).all())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
def test_few_images_and_images_described_alike_have_finite_places(count: int) -> None:
    for descriptors in (torch.eye(count, 4), torch.ones(count, 1), torch.ones(count, 3)):
        places = lay_out(descriptors)
        assert places.shape == (count, 2)
        assert bool(places.isfinite().all())
