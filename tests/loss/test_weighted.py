"""Sums of losses: gradients of the parts, each found in its own way."""

import pytest
import torch
from torch import Tensor

from apdist.loss import gradient
from apdist.loss.baselines import Calibration, Contrastive
from apdist.loss.batch_loss import BatchLoss
from apdist.loss.centres import ArcFace, ProxyAnchor
from apdist.loss.gradient import score_own_rows
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.results import RowScores
from apdist.loss.weighted import WeightedSum, options_of
from tests.reference import unit_rows

DESCRIPTORS, LABELS = unit_rows(12, 4, seed=0), torch.arange(12) // 3


def scored(loss: BatchLoss) -> RowScores:
    return score_own_rows(
        loss,
        *(DESCRIPTORS, LABELS, slice(0, 12)),
        sum_over_workers=lambda x: x,
        gather_rows=lambda x: x,
    )


def learned() -> tuple[ArcFace, ProxyAnchor]:
    torch.manual_seed(0)
    return ArcFace(LABELS, 4, scale=5.0), ProxyAnchor(LABELS, 4)


def test_a_sum_has_the_gradients_of_one_graph() -> None:
    arcface, anchor = learned()
    terms: list[tuple[BatchLoss, float]] = [
        *((arcface, 0.5), (AveragePrecisionLoss(), 2.0)),
        *((Calibration(), 0.1), (anchor, 0.25)),
    ]
    loss, leaf = WeightedSum(terms), DESCRIPTORS.clone().requires_grad_()
    value: Tensor = sum(weight * term(leaf, LABELS) for term, weight in terms)  # type: ignore[assignment]
    value.backward()
    assert leaf.grad is not None
    found = scored(loss)
    assert float(found.loss) == pytest.approx(value.item(), rel=1e-12)
    torch.testing.assert_close(found.gradient, leaf.grad, rtol=1e-9, atol=1e-12)
    assert list(loss.parameters()) == [arcface.centres, anchor.centres]
    for parameter, own in zip(loss.parameters(), found.parameter_gradients, strict=True):
        torch.testing.assert_close(own, parameter.grad, rtol=1e-6, atol=1e-9)
    assert loss(DESCRIPTORS, LABELS).item() == pytest.approx(value.item(), rel=1e-12)


def test_what_is_told_of_a_sum_is_that_of_its_listwise_term() -> None:
    alone = scored(AveragePrecisionLoss(num_bins=9))
    found = scored(WeightedSum([(Calibration(), 3.0), (AveragePrecisionLoss(num_bins=9), 0.5)]))
    assert found.listwise_loss == alone.loss
    assert found.term_losses == (scored(Calibration()).loss, alone.loss)
    assert torch.equal(found.average_precision, alone.average_precision)
    told = found.diagnostics.positive_histogram
    assert torch.equal(told, alone.diagnostics.positive_histogram)
    others = scored(WeightedSum([(Calibration(), 3.0), (Contrastive(), 0.5)]))
    assert others.listwise_loss is None
    assert others.average_precision.isnan().all()


def test_the_listwise_term_goes_through_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    scored_rows, sizes = gradient.score_batch_rows, []

    def noted(batch: gradient.Batch, rows: slice, *collectives: object) -> RowScores:
        sizes.append((len(batch.descriptors), rows))
        return scored_rows(batch, rows, *collectives)  # type: ignore[arg-type]

    monkeypatch.setattr(gradient, "score_batch_rows", noted)
    sums = WeightedSum([(AveragePrecisionLoss(backend="tiled"), 1.0), (Calibration(), 0.1)])
    assert len(scored(sums).gradient) == 12
    assert sizes == [(12, slice(0, 12))]


def test_options_are_those_of_the_listwise_loss_alone_or_in_a_sum() -> None:
    listwise = AveragePrecisionLoss(num_bins=9)
    assert options_of(listwise) == options_of(WeightedSum([(Calibration(), 1.0), (listwise, 1.0)]))
    assert options_of(Calibration()) is None
    assert options_of(learned()[0]) is None
    assert WeightedSum([(Calibration(), 1.0)]).options is None


def test_two_listwise_terms_are_refused() -> None:
    with pytest.raises(ValueError, match="one average-precision loss, got several"):
        WeightedSum([(AveragePrecisionLoss(), 1.0), (AveragePrecisionLoss(), 1.0)])


def test_a_sum_refuses_junk_for_terms_that_do_not_know_it() -> None:
    with pytest.raises(ValueError, match="only the average-precision loss knows ignore"):
        score_own_rows(
            WeightedSum([(AveragePrecisionLoss(), 1.0), (Calibration(), 1.0)]),
            *(DESCRIPTORS, LABELS, slice(0, 12)),
            sum_over_workers=lambda x: x,
            gather_rows=lambda x: x,
            ignore=torch.zeros(12).long(),
        )
