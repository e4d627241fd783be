"""Losses by their names, with the options of a run."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from apdist.config import LossConfig
from apdist.config.loss import LossOptions
from apdist.config.losses import LOSSES, Loss
from apdist.loss import baselines
from apdist.loss.baselines import RecallAtK, SmoothAveragePrecision
from apdist.loss.building import build_loss
from apdist.loss.centres import ArcFace
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.matryoshka import Matryoshka
from apdist.loss.weighted import WeightedSum
from tests.reference import unit_rows

DESCRIPTORS, LABELS = unit_rows(12, 4, seed=0), torch.arange(12) // 3 + 5
CLASSES = np.array([8, 5, 6, 7, 7, 9, 8])


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_of_the_table_is_a_function_of_a_batch(kind: str) -> None:
    assert build_loss(LossConfig(kind=kind), CLASSES, 4)(DESCRIPTORS, LABELS).isfinite()


@pytest.mark.parametrize("kind", ["ap", "tie_aware", "tie_aware_simplified"])
def test_a_listwise_loss_has_every_option_of_its_section(kind: str) -> None:
    shared = {"num_bins": 9, "min_score": -0.5, "max_score": 0.9, "cache_mib": 3}
    config = LossConfig(kind=kind, precision="bf16x3", include_self="yes", **shared)  # type: ignore[arg-type]
    loss = build_loss(config, CLASSES, 4)
    assert isinstance(loss, AveragePrecisionLoss)
    options = {"precision": "bf16x3", "include_self": True, **shared}
    assert loss.options == LossOptions(variant=kind, **options)  # type: ignore[arg-type]
    assert loss.options != LossOptions(variant=kind)  # type: ignore[arg-type]


def test_another_loss_gets_what_was_chosen_and_else_its_own_defaults() -> None:
    smooth = LossConfig(kind="smooth_ap", include_self="no", temperature=0.5)
    assert build_loss(smooth, CLASSES, 4) == SmoothAveragePrecision(
        temperature=0.5, include_self=False
    )
    assert build_loss(LossConfig(kind="smooth_ap"), CLASSES, 4) == SmoothAveragePrecision()
    assert build_loss(LossConfig(kind="recall_at_k", ks=(3, 5)), CLASSES, 4) == RecallAtK(ks=(3, 5))
    same = LossConfig(kind="contrastive", num_bins=40)  # as a preset has it
    assert build_loss(same, CLASSES, 4) == baselines.Contrastive()


def test_a_loss_with_centres_has_one_for_each_class() -> None:
    loss = build_loss(LossConfig(kind="arcface", margin=0.25, scale=3.0), CLASSES, 4)
    assert isinstance(loss, ArcFace)
    assert (loss.options.margin, loss.options.scale) == (0.25, 3.0)
    assert loss.places.classes.tolist() == [5, 6, 7, 8, 9]
    assert loss.centres.shape == (5, 4)


def test_a_matryoshka_has_a_loss_for_each_size() -> None:
    loss = build_loss(LossConfig(kind="arcface", margin=0.25, matryoshka=(1, 3)), CLASSES, 4)
    assert isinstance(loss, Matryoshka)
    assert loss.sizes == (1, 3)
    assert [tuple(p.shape) for p in loss.parameters()] == [(5, 1), (5, 3), (5, 4)]
    assert loss(DESCRIPTORS, LABELS).isfinite()
    alone = build_loss(LossConfig(matryoshka=(2,), num_bins=9), CLASSES, 4)
    assert [part.options.num_bins for part in alone.losses] == [9, 9]  # type: ignore[attr-defined]


def test_centres_of_whole_descriptors_begin_the_same_with_matryoshka_and_without() -> None:
    torch.manual_seed(3)
    alone = build_loss(LossConfig(kind="arcface"), CLASSES, 4)
    torch.manual_seed(3)
    loss = build_loss(LossConfig(kind="arcface", matryoshka=(2,)), CLASSES, 4)
    assert isinstance(loss, Matryoshka)
    assert isinstance(alone, ArcFace)
    assert torch.equal(alone.centres, list(loss.parameters())[-1])


@pytest.mark.parametrize("size", [4, 9])
def test_a_part_that_is_no_part_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"matryoshka {size} is not below the 4 numbers"):
        build_loss(LossConfig(matryoshka=(2, size)), CLASSES, 4)


def test_one_of_pytorch_metric_learning_gets_its_arguments() -> None:
    pytest.importorskip("pytorch_metric_learning")
    config = LossConfig(kind="pml:TripletMarginLoss", arguments=("margin=0.3", "swap=True"))
    loss = build_loss(config, CLASSES, 4)
    assert (loss.margin, loss.swap) == (0.3, True)  # type: ignore[attr-defined]
    learned = build_loss(LossConfig(kind="pml:ProxyNCALoss"), CLASSES, 4)
    assert isinstance(learned, nn.Module)
    assert [p.shape for p in learned.parameters()] == [(5, 4)]


def test_terms_make_a_sum() -> None:
    config = LossConfig(terms=("ap=1", "calibration=0.1"), num_bins=9, positive_margin=0.8)
    loss = build_loss(config, CLASSES, 4)
    assert isinstance(loss, WeightedSum)
    assert loss.options == LossOptions(num_bins=9)
    expected = AveragePrecisionLoss(num_bins=9)(DESCRIPTORS, LABELS)
    expected = expected + 0.1 * baselines.Calibration(positive_margin=0.8)(DESCRIPTORS, LABELS)
    assert loss(DESCRIPTORS, LABELS) == pytest.approx(float(expected), abs=1e-12)


@dataclass(frozen=True, kw_only=True)
class Mine:
    """A loss of somebody else, with an option of the section and one of its own."""

    max_score: float = 1.0
    sharpness: float = 2.0

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        return (self.max_score - descriptors).square().sum() * self.sharpness


def test_a_new_loss_is_a_line_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="must be one of ap, .* got 'mine'"):
        LossConfig(kind="mine")
    monkeypatch.setitem(LOSSES, "mine", Loss(f"{__name__}:Mine", Mine))
    config = LossConfig(kind="mine", max_score=0.5)
    assert build_loss(config, CLASSES, 4) == Mine(max_score=0.5)
