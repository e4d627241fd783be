"""Losses with a centre for each class, against loops over plain numbers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from apdist.loss import centres
from apdist.loss.centres import ArcFace, CentresLoss, CosFace, NormalisedSoftmax, ProxyAnchor
from tests import reference
from tests.reference import unit_rows

CLASSES = torch.tensor([40, 7, 12, 3, 12, 99])  # five; none of the batch is 99
LABELS = torch.tensor([7, 3, 7, 12, 3, 40, 12, 7])
PLACES = [1, 0, 1, 2, 0, 3, 2, 1]
Slow = Callable[[list[list[float]], list[int]], float]
CASES: list[tuple[type[CentresLoss], dict[str, Any], Slow]] = [
    (ArcFace, {}, lambda c, p: reference.arcface(c, p, 0.5, 64)),
    # Some angles and the margin make more than a half turn.
    (ArcFace, {"margin": 2.5, "scale": 8.0}, lambda c, p: reference.arcface(c, p, 2.5, 8)),
    (CosFace, {}, lambda c, p: reference.cosface(c, p, 0.35, 64)),
    (CosFace, {"margin": 0.1, "scale": 20.0}, lambda c, p: reference.cosface(c, p, 0.1, 20)),
    (NormalisedSoftmax, {}, lambda c, p: reference.cosface(c, p, 0, 20)),
    (NormalisedSoftmax, {"temperature": 0.5}, lambda c, p: reference.cosface(c, p, 0, 2)),
    (ProxyAnchor, {}, lambda c, p: reference.proxy_anchor(c, p, 0.1, 32)),
    (ProxyAnchor, {"margin": 0.3, "alpha": 4.0}, lambda c, p: reference.proxy_anchor(c, p, 0.3, 4)),
]
KINDS = [ArcFace, CosFace, NormalisedSoftmax, ProxyAnchor]


def built(kind: type[CentresLoss], **options: Any) -> CentresLoss:
    torch.manual_seed(3)
    return kind(CLASSES, 4, **options).double()  # type: ignore[call-arg]


@pytest.mark.parametrize(("kind", "options", "slow"), CASES)
def test_a_loss_is_its_formula(
    kind: type[CentresLoss], options: dict[str, Any], slow: Slow
) -> None:
    loss, descriptors = built(kind, **options), unit_rows(8, 4, seed=0)
    assert loss.centres.shape == (5, 4)
    torch.testing.assert_close(loss.centres.norm(dim=1), torch.ones(5).double(), rtol=0, atol=1e-6)
    with torch.no_grad():
        loss.centres *= torch.tensor([[2.0], [0.1], [1], [3], [1]])  # directions count alone
    cosines = descriptors @ F.normalize(loss.centres.detach(), dim=1).T
    expected = slow(cosines.tolist(), PLACES)
    assert loss(descriptors, LABELS).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("kind", "options", "slow"), CASES)
def test_gradients_by_descriptors_and_centres_are_those_of_finite_differences(
    kind: type[CentresLoss], options: dict[str, Any], slow: Slow
) -> None:
    del slow
    loss = built(kind, **{"scale": 4.0} | options if kind in (ArcFace, CosFace) else options)
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def value(rows: Tensor, centres: Tensor) -> Tensor:
        loss.centres.data = centres.detach()
        return torch.func.functional_call(
            loss, {"centres": centres}, (F.normalize(rows, dim=1), LABELS)
        )

    inputs = rows.requires_grad_(), loss.centres.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(value, inputs, eps=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_parts_change_nothing(kind: type[CentresLoss], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for most in (1 << 20, 11):  # rows by two, classes one by one
        monkeypatch.setattr(centres, "_MOST", most)
        loss, rows = built(kind), unit_rows(8, 4, seed=0).requires_grad_()
        value = loss(rows, LABELS)
        found.append([value.detach(), *torch.autograd.grad(value, [rows, loss.centres])])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_at_and_against_a_centre_there_is_a_finite_gradient(kind: type[CentresLoss]) -> None:
    loss = built(kind)
    own = F.normalize(loss.centres.detach(), dim=1)[PLACES]
    for rows in (own, -own):
        leaf = rows.clone().requires_grad_()
        value = loss(leaf, LABELS)
        value.backward()
        assert value.isfinite()
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert loss.centres.grad is not None
        assert loss.centres.grad.isfinite().all()


def test_half_precision_is_scored_in_float32() -> None:
    torch.manual_seed(0)
    loss, rows = ArcFace(CLASSES, 4), unit_rows(8, 4, seed=0, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(rows, LABELS) == loss(rows.clone(), LABELS)
        assert loss(rows, LABELS).dtype == torch.float32


def test_bad_input_is_refused() -> None:
    loss, rows = built(ArcFace), unit_rows(8, 4, seed=0)
    with pytest.raises(ValueError, match="of the 5 classes that the loss has centres for, got 8"):
        loss(rows, LABELS.where(LABELS != 12, torch.tensor(8)))
    with pytest.raises(ValueError, match="got 100"):
        loss(rows, LABELS.where(LABELS != 12, torch.tensor(100)))
    with pytest.raises(ValueError, match="must have the 4 numbers of the centres, got 5"):
        loss(unit_rows(8, 5, seed=0), LABELS)
    with pytest.raises(ValueError, match="unit length"):
        loss(rows * 2, LABELS)
    with pytest.raises(ValueError, match="margin must lie in"):
        ArcFace(CLASSES, 4, margin=4.0)
