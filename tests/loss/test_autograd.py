"""The loss as a node of a graph: backward once, again, and not twice differentiated."""

from __future__ import annotations

import pytest
import torch

from apdist.loss.listwise import (
    average_precision_loss,
)
from tests.reference import (
    unit_rows,
)

FAST = ["tiled", "numba"]


@pytest.mark.parametrize("backend", FAST)
def test_autocast_around_loss_and_backward_changes_no_bit(backend: str) -> None:
    rows, labels = unit_rows(50, 16, seed=14, dtype=torch.float32), torch.arange(50) // 2
    results = []
    for enabled in (False, True):
        descriptors = rows.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            average_precision_loss(descriptors, labels, backend=backend, cache_mib=0).backward()
        results.append(descriptors.grad)
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize("backend", FAST)
def test_second_derivative_is_refused(backend: str) -> None:
    descriptors = unit_rows(8, 4, seed=16).requires_grad_()
    loss = average_precision_loss(descriptors, torch.arange(8) // 2, backend=backend)
    (gradient,) = torch.autograd.grad(loss, descriptors, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        gradient.sum().backward()


GOOD = unit_rows(6, 4, seed=17)


LABELS = torch.arange(6) // 2


def test_a_loss_that_is_kept_gives_its_gradient_away_and_can_go_backward_again() -> None:
    leaf = GOOD.clone().requires_grad_()
    loss = average_precision_loss(leaf, LABELS)
    loss.backward(retain_graph=True)
    assert loss.grad_fn.gradient is None  # type: ignore[union-attr]
    first = leaf.grad.clone()  # type: ignore[union-attr]
    loss.backward()
    torch.testing.assert_close(leaf.grad, 2 * first)
