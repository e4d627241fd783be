"""Losses by their names, and any loss scored for a part of a batch."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from apdist.config import LossConfig
from apdist.config.loss import Bins, LossOptions
from apdist.loss.baselines import Contrastive
from apdist.loss.batch_loss import build_loss
from apdist.loss.gradient import score_own_rows
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.losses import LOSSES
from tests.reference import unit_rows

DESCRIPTORS, LABELS = unit_rows(12, 4, seed=0), torch.arange(12) // 3


@pytest.mark.parametrize("kind", LOSSES)
def test_every_loss_of_the_table_is_a_function_of_a_batch(kind: str) -> None:
    assert build_loss(LossConfig(kind=kind))(DESCRIPTORS, LABELS).isfinite()


@pytest.mark.parametrize("kind", ["ap", "tie_aware", "tie_aware_simplified"])
def test_a_listwise_loss_has_every_option_of_its_section(kind: str) -> None:
    shared = {"num_bins": 9, "min_score": -0.5, "max_score": 0.9, "cache_mib": 3}
    config = LossConfig(kind=kind, precision="bf16x3", **shared)  # type: ignore[arg-type]
    loss = build_loss(config)
    assert isinstance(loss, AveragePrecisionLoss)
    assert loss.options == LossOptions(variant=kind, precision="bf16x3", **shared)  # type: ignore[arg-type]
    assert loss.options != LossOptions(variant=kind)  # type: ignore[arg-type]


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
    monkeypatch.setitem(LOSSES, "mine", f"{__name__}:Mine")
    assert build_loss(LossConfig(kind="mine", max_score=0.5)) == Mine(max_score=0.5)


@pytest.mark.parametrize("rows", [slice(0, 12), slice(4, 9), slice(12, 12)])
def test_a_worker_gets_the_gradient_of_its_own_rows_of_any_loss(rows: slice) -> None:
    leaf = DESCRIPTORS.clone().requires_grad_()
    expected = Contrastive()(leaf, LABELS)
    expected.backward()
    found = score_own_rows(
        Contrastive(),
        *(DESCRIPTORS, LABELS, rows),
        sum_over_workers=lambda x: x,
        gather_rows=lambda x: x,
    )
    assert torch.equal(found.loss, expected.detach())
    assert leaf.grad is not None
    assert torch.equal(found.gradient, leaf.grad[rows])


@pytest.mark.parametrize("option", ["ignore", "query_weights"])
def test_what_only_the_listwise_loss_knows_is_refused_with_another(option: str) -> None:
    with pytest.raises(ValueError, match="only the average-precision loss knows ignore and query"):
        score_own_rows(
            Contrastive(),
            *(DESCRIPTORS, LABELS, slice(0, 12)),
            sum_over_workers=lambda x: x,
            gather_rows=lambda x: x,
            **{option: torch.ones(12)},
        )


def test_the_mean_similarity_of_pairs_is_known_of_any_loss() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    descriptors = unit_rows(6, 4, seed=1)
    found = score_own_rows(
        Contrastive(),
        descriptors,
        labels,
        slice(0, 6),
        sum_over_workers=lambda x: x,
        gather_rows=lambda x: x,
    ).diagnostics
    scores = descriptors @ descriptors.T
    same = labels[:, None] == labels[None, :]
    for kind, pairs in (("positive", same & ~torch.eye(6, dtype=torch.bool)), ("negative", ~same)):
        expected = float(scores[pairs].mean())
        assert found.mean_score(kind, Bins(num_bins=2)) == pytest.approx(expected, abs=1e-6)  # type: ignore[arg-type]
    assert float(found.positive_histogram.sum()) == 8
    assert float(found.negative_histogram.sum()) == 22
