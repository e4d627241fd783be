"""GeM: its two limits, and the published code."""

import pytest
import torch

from apdist.model.pooling import GeM


def test_gem_with_p_1_is_the_mean() -> None:
    x = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(GeM(p=1.0)(x), x.mean(dim=(-2, -1)))


def test_gem_with_a_large_p_is_the_maximum() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64) + 0.5
    pooled = GeM(p=300.0)(x)
    torch.testing.assert_close(pooled, x.amax(dim=(-2, -1)), rtol=2e-2, atol=0)


def test_gem_of_the_published_code() -> None:
    # Revaud et al.'s GeM (dirtorch), p = 3, on 0.1, 0.2, ..., 0.6 per channel, by hand:
    x = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64).view(1, 1, 2, 3)
    expected = ((0.001 + 0.008 + 0.027 + 0.064 + 0.125 + 0.216) / 6) ** (1 / 3)
    assert GeM(p=3.0)(x).item() == pytest.approx(expected, rel=1e-6)


def test_gem_does_not_overflow_in_half_precision() -> None:
    assert GeM(p=3.0)(torch.full((1, 1, 2, 2), 100.0, dtype=torch.float16)).isfinite().all()
