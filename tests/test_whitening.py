"""Whitening: figures of published code, the properties that define it, files and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from apdist.model.whitening import (
    Whitening,
    learn_pca_whitening,
    learn_supervised_whitening,
    load_whitening,
    pca_whitening,
    save_whitening,
)

# From the published test code of deep-image-retrieval, on this PCA.
IMAGES = [[0.5, 0.5, 0.5, 0.5], [0.1, -0.7, 0.7, 0.1], [0.9, 0.1, -0.3, 0.3]]
MEAN = [0.1, 0.2, -0.1, 0.0]
COMPONENTS = [
    [0.9553364891, -0.2955202067, 0.0, 0.0],
    [0.2955202067, 0.9553364891, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
    [0.0, 0.0, 0.0, 1.0],
]
VARIANCE = [0.5, 0.2, 0.05, 0.01]
WHITENED = {
    0.25: [
        [0.1627570896, 0.2822921283, 0.5917180607, 0.7373540674],
        [0.1456582425, -0.5920920798, 0.7791038692, 0.1456290027],
        [0.6651252368, 0.1484303903, -0.2979961976, 0.6684123763],
    ],
    0.5: [
        [0.0720405752, 0.1571162217, 0.4657491617, 0.8678723217],
        [0.0895617754, -0.4577853421, 0.85188896, 0.238110203],
        [0.3360581868, 0.0943015617, -0.2677452506, 0.8980448715],
    ],
    0.0: [
        [0.3164660416, 0.4365168026, 0.6469966392, 0.539163866],
        [0.2201168369, -0.7115778936, 0.6620847109, 0.0827605889],
        [0.8988255275, 0.1595180379, -0.2264554068, 0.3396831102],
    ],
}
WHITENED_TO_TWO = [
    [0.4994835398, 0.8663233769],
    [0.2388837402, -0.9710481753],
    [0.9759925247, 0.2178040215],
]
# From cnnimageretrieval-pytorch: mean and |P| that it learned from one data set.
LEARNED_MEAN = [0.0645279618, 0.3939773474, 0.7090650548]
LEARNED_PROJECTION = [
    [0.3359664655, 0.7515631791, 0.6402097184],
    [0.9674733335, 0.2240964027, 0.7707805536],
    [6.4005845176, 7.7783935837, 5.7724404142],
]


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def correlated(count: int, dim: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return noise @ mixing + torch.arange(dim)


def before_l2(whitening: Whitening, descriptors: Tensor) -> Tensor:
    weight, bias = whitening.as_linear()
    return descriptors @ weight.T + bias


@pytest.mark.parametrize("power", list(WHITENED))
def test_a_finished_pca_whitens_as_the_published_code_does(power: float) -> None:
    whitening = pca_whitening(tensor(MEAN), tensor(COMPONENTS), tensor(VARIANCE), power=power)
    torch.testing.assert_close(
        whitening(tensor(IMAGES)), tensor(WHITENED[power]), atol=1e-9, rtol=0
    )


def test_fewer_components_whiten_as_the_published_code_does() -> None:
    components, variance = tensor(COMPONENTS)[:2], tensor(VARIANCE)[:2]
    whitening = pca_whitening(tensor(MEAN), components, variance, power=0.25)
    torch.testing.assert_close(
        whitening(tensor(IMAGES)), tensor(WHITENED_TO_TWO), atol=1e-9, rtol=0
    )


def test_learned_projection_is_the_published_one_for_data_of_the_same_mean_and_covariance() -> None:
    # |P| with the signs that make its rows orthogonal, and data whose covariance is (P^T P)^-1.
    projection = tensor(LEARNED_PROJECTION) * tensor([[1, 1, 1], [1, 1, -1], [1, -1, 1]])
    gram = projection @ projection.T
    signs = [
        tensor(LEARNED_PROJECTION) * tensor([[1, a, b], [1, c, d], [1, e, f]])
        for a, b, c, d, e, f in torch.cartesian_prod(*[torch.tensor([-1, 1])] * 6).tolist()
    ]
    projection = min(signs, key=lambda p: float(((p @ p.T) / gram.diag().sqrt().outer(gram.diag().sqrt()) - torch.eye(3)).abs().max()))
    half = torch.linalg.inv(projection).T * 3**0.5
    data = torch.cat([half, -half]) + tensor(LEARNED_MEAN)
    whitening = learn_pca_whitening(data, power=0.5)
    torch.testing.assert_close(whitening.mean, tensor(LEARNED_MEAN), atol=1e-9, rtol=0)
    torch.testing.assert_close(
        whitening.projection.abs(), tensor(LEARNED_PROJECTION), atol=1e-6, rtol=0
    )
