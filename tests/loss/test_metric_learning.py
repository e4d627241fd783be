"""Losses of pytorch-metric-learning, by name and with arguments."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from apdist.loss.centres import ArcFace, CosFace, NormalisedSoftmax, ProxyAnchor
from apdist.loss.metric_learning import metric_learning
from tests import reference
from tests.reference import unit_rows

pytest.importorskip("pytorch_metric_learning")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs

CLASSES = torch.tensor([40, 7, 12, 3, 12])
LABELS = torch.tensor([7, 3, 7, 12, 3, 40, 12, 7])
DESCRIPTORS = unit_rows(8, 5, seed=0)


def built(name: str, *arguments: str, **options: Any) -> nn.Module:
    return metric_learning(name, CLASSES, 5, arguments=arguments, **options)


def test_a_loss_gets_its_arguments() -> None:
    found = built("FastAPLoss", "num_bins=19")(DESCRIPTORS, LABELS)
    averages = reference.average_precision_of_batch(DESCRIPTORS, LABELS, num_bins=20)
    assert found.item() == pytest.approx(reference.mean_loss(averages), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("QuadrupletLoss", [], r"no loss 'QuadrupletLoss'.*; it has .*TripletMarginLoss"),
        ("TripletMarginloss", [], "did you mean 'TripletMarginLoss'"),
        ("BaseMetricLossFunction", [], "has no loss"),
        (
            "TripletMarginLoss",
            ["swp=True"],
            r"no argument 'swp'; did you mean 'swap'\?; it is TripletMarginLoss\(margin=0.05, swap",
        ),
        (
            "CosFaceLoss",
            ["temperature=1"],
            r"no argument .*; it is CosFaceLoss\(margin=0.35, scale=64",
        ),
        ("TripletMarginLoss", ["margin='wide'"], r"loss.arguments: .*; it is TripletMarginLoss"),
        ("RankedListLoss", ["margin=1"], "needs Tn; it is RankedListLoss"),
        ("ArcFaceLoss", ["num_classes=3"], "num_classes of pml:ArcFaceLoss is known from the data"),
    ],
)
def test_a_wrong_name_or_argument_is_refused(name: str, arguments: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        built(name, *arguments)
    assert "\n" not in str(refused.value)


def test_a_rate_of_centres_is_for_losses_with_parameters() -> None:
    assert built("ProxyAnchorLoss", centres_rate=3.0)
    with pytest.raises(ValueError, match="pml:TripletMarginLoss has no parameters"):
        built("TripletMarginLoss", centres_rate=3.0)


@pytest.mark.parametrize(
    "name",
    ["SubCenterArcFaceLoss", "SoftTripleLoss", "ProxyNCALoss", "SphereFaceLoss", "P2SGradLoss"],
)
def test_one_with_parameters_learns_from_any_labels(name: str) -> None:
    loss = built(name)
    descriptors = DESCRIPTORS.clone().requires_grad_()
    loss(descriptors, LABELS).backward()
    (parameter,) = loss.parameters()
    assert 4 in parameter.shape or 12 in parameter.shape or 40 in parameter.shape
    assert parameter.grad is not None
    assert parameter.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="got 5"):
        loss(DESCRIPTORS, torch.full((8,), 5))


def centres_of(loss: nn.Module, rows: Tensor) -> nn.Module:
    """``loss`` with ``rows`` (C, d) for its parameter, which may lie the other way round."""
    (parameter,) = loss.parameters()
    parameter.data = rows.clone() if parameter.shape == rows.shape else rows.T.clone()
    return loss


@pytest.mark.parametrize(
    ("ours", "name", "arguments"),
    [
        (ArcFace(CLASSES, 5, margin=0.5), "ArcFaceLoss", [f"margin={180 / torch.pi * 0.5}"]),
        (ArcFace(CLASSES, 5, margin=2.0), "ArcFaceLoss", [f"margin={180 / torch.pi * 2}"]),
        (CosFace(CLASSES, 5, scale=16.0), "CosFaceLoss", ["scale=16"]),
        (NormalisedSoftmax(CLASSES, 5), "NormalizedSoftmaxLoss", []),
        (ProxyAnchor(CLASSES, 5), "ProxyAnchorLoss", []),
    ],
)
def test_ours_are_theirs(ours: nn.Module, name: str, arguments: list[str]) -> None:
    rows = unit_rows(4, 5, seed=2)
    found = []
    for loss in (ours, built(name, *arguments)):
        descriptors = DESCRIPTORS.clone().requires_grad_()
        value = centres_of(loss.double(), rows)(descriptors, LABELS)
        value.backward()
        (parameter,) = loss.parameters()
        assert parameter.grad is not None
        gradient = parameter.grad if parameter.shape == rows.shape else parameter.grad.T
        # Theirs divide by lengths once more: what moves along a row changes nothing.
        own = F.normalize(descriptors.detach(), dim=1)
        across = descriptors.grad - (descriptors.grad * own).sum(1, keepdim=True) * own  # type: ignore[operator]
        found.append((value.detach(), gradient, across))
    for mine, their in zip(*found, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-9, atol=1e-9)
