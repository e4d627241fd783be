"""Losses of the first numbers of descriptors beside that of the whole."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.loss.baselines import Contrastive
from apdist.loss.batch_loss import BatchLoss
from apdist.loss.centres import ArcFace
from apdist.loss.gradient import score_own_rows
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.matryoshka import Matryoshka, first_numbers
from apdist.loss.results import RowScores
from apdist.loss.weighted import WeightedSum, options_of
from tests.reference import unit_rows

DESCRIPTORS, LABELS = unit_rows(24, 8, seed=0), torch.arange(24) // 3
DENSE = AveragePrecisionLoss(backend="dense")


def scored(
    loss: BatchLoss,
    rows: slice = slice(0, 24),
    ignore: Tensor | None = None,
    descriptors: Tensor = DESCRIPTORS,
) -> RowScores:
    return score_own_rows(
        loss,
        *(descriptors, LABELS, rows),
        sum_over_workers=lambda x: x,
        gather_rows=lambda x: x,
        ignore=ignore,
    )


def one_graph(ignore: Tensor | None = None) -> tuple[float, Tensor]:
    """By the definition: each part cut and made of unit length by hand."""
    leaf = DESCRIPTORS.clone().requires_grad_()
    losses = [DENSE(leaf, LABELS, ignore=ignore)]
    for size in (2, 5):
        cut = leaf[:, :size]
        losses.append(
            DENSE(cut / (cut * cut).sum(dim=1, keepdim=True).sqrt(), LABELS, None, ignore)
        )
    value = sum(losses) / 3
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


@pytest.mark.parametrize("has_junk", [False, True])
def test_it_is_the_mean_over_the_parts_and_the_whole(has_junk: bool) -> None:
    ignore = torch.arange(24) % 5 if has_junk else None
    loss = Matryoshka(AveragePrecisionLoss(), dict.fromkeys((5, 2), AveragePrecisionLoss()))
    value, gradient = one_graph(ignore)
    found = scored(loss, ignore=ignore)
    assert float(found.loss) == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-9, atol=1e-12)
    if not has_junk:
        leaf = DESCRIPTORS.clone().requires_grad_()
        loss(leaf, LABELS).backward()
        torch.testing.assert_close(leaf.grad, gradient, rtol=1e-9, atol=1e-12)


def test_a_worker_gets_the_gradient_of_its_own_rows() -> None:
    loss = Matryoshka(Contrastive(), {3: Contrastive()})
    whole = scored(loss).gradient
    assert torch.equal(scored(loss, slice(7, 24)).gradient, whole[7:])
    assert scored(loss, slice(4, 4)).gradient.shape == (0, 8)


def test_what_else_is_told_is_that_of_whole_descriptors() -> None:
    alone = scored(AveragePrecisionLoss(num_bins=9))
    cut = scored(AveragePrecisionLoss(num_bins=9), descriptors=first_numbers(DESCRIPTORS, 4))
    nine = AveragePrecisionLoss(num_bins=9)
    found = scored(Matryoshka(nine, {4: nine}))
    assert found.listwise_loss == alone.loss
    assert found.term_losses == (cut.loss, alone.loss)
    assert torch.equal(found.average_precision, alone.average_precision)
    told = found.diagnostics.positive_histogram
    assert torch.equal(told, alone.diagnostics.positive_histogram)
    terms = WeightedSum([(nine, 2.0), (Contrastive(), 1.0)])
    of_terms = scored(Matryoshka(terms, {4: nine})).term_losses
    assert of_terms == (alone.loss, scored(Contrastive()).loss, cut.loss, scored(terms).loss)


def test_each_part_learns_centres_of_its_own() -> None:
    torch.manual_seed(0)
    whole, part = ArcFace(LABELS, 8, scale=5.0).double(), ArcFace(LABELS, 3, scale=5.0).double()
    loss = Matryoshka(whole, {3: part})
    found = scored(loss)
    loss(DESCRIPTORS, LABELS).backward()
    assert list(loss.parameters()) == [part.centres, whole.centres]
    for parameter, own in zip(loss.parameters(), found.parameter_gradients, strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(own, parameter.grad, rtol=1e-9, atol=1e-12)


def test_its_rounds_are_those_of_its_listwise_losses() -> None:
    listwise, other = AveragePrecisionLoss(num_bins=9), Contrastive()
    loss = Matryoshka(listwise, {2: other, 3: WeightedSum([(listwise, 1.0), (other, 1.0)])})
    assert loss.num_rounds == 2
    assert loss.options is listwise.options is options_of(loss)
    assert Matryoshka(other, {2: other}).options is None


def test_half_precision_is_cut_as_float32() -> None:
    half = first_numbers(DESCRIPTORS.bfloat16(), 4)
    assert half.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        found = first_numbers(DESCRIPTORS.float(), 4)
    assert torch.equal(found, F.normalize(DESCRIPTORS.float()[:, :4], dim=1))


def test_a_cut_without_a_direction_is_the_first_axis_and_has_no_gradient() -> None:
    some = DESCRIPTORS.clone()
    some[3, :4], some[7, :4] = 0, 1e-9
    some = F.normalize(some, dim=1)
    expected = F.normalize(some[:, :4], dim=1)
    expected[3] = expected[7] = torch.tensor([1.0, 0, 0, 0])
    torch.testing.assert_close(first_numbers(some, 4), expected, rtol=1e-12, atol=0)
    loss = Matryoshka(lambda x, _: x.new_zeros(()) + 0 * x.sum(), {4: AveragePrecisionLoss()})
    found = scored(loss, descriptors=some)
    assert torch.count_nonzero(found.gradient[[3, 7]]) == 0
    assert torch.count_nonzero(found.gradient[[2, 6], :4]) == 8
    leaf = some.clone().requires_grad_()
    loss(leaf, LABELS).backward()
    torch.testing.assert_close(leaf.grad, found.gradient, rtol=1e-9, atol=1e-12)
    bad = some.clone()
    bad[1, 2] = torch.nan
    assert first_numbers(bad, 4)[1].isnan().any()


def test_weights_and_junk_are_of_all_parts() -> None:
    weights, ignore = torch.rand(24, generator=torch.Generator().manual_seed(0)), LABELS % 2
    listwise = AveragePrecisionLoss()
    found = Matryoshka(listwise, {3: listwise})(DESCRIPTORS, LABELS, weights, ignore)
    parts = [DESCRIPTORS, first_numbers(DESCRIPTORS, 3)]
    expected = sum(listwise(part, LABELS, weights, ignore) for part in parts) / 2
    assert found.item() == pytest.approx(float(expected), rel=1e-12)
    with pytest.raises(ValueError, match="only the average-precision loss knows ignore"):
        Matryoshka(listwise, {3: Contrastive()})(DESCRIPTORS, LABELS, ignore=ignore)


def test_it_is_scored_in_inference_mode_as_well() -> None:
    loss = Matryoshka(AveragePrecisionLoss(), {3: AveragePrecisionLoss()})
    with torch.inference_mode():
        found = scored(loss).gradient
    assert torch.equal(found, scored(loss).gradient)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "by whole numbers of at least 1, as {64: loss, 128: loss}, got "),
        ({4: 1, 0: 1}, "at least 1"),
        ({"4": 1}, "whole numbers"),
        ({4.5: 1}, "whole numbers"),
        ({True: 1}, "whole numbers"),
        ([4, 8], "losses by whole numbers"),
        ({4: None}, "must be functions of descriptors and labels"),
    ],
)
def test_parts_that_cannot_be_are_refused(parts: Any, message: str) -> None:
    if isinstance(parts, dict):
        parts = {size: loss and Contrastive() for size, loss in parts.items()}
    with pytest.raises(ValueError, match=message):
        Matryoshka(Contrastive(), parts)


def test_more_numbers_than_there_are_are_refused() -> None:
    loss = Matryoshka(Contrastive(), {9: Contrastive()})
    for work in (scored, lambda loss: loss(DESCRIPTORS, LABELS)):
        with pytest.raises(ValueError, match="have 8 numbers, too few for a cut to the first 9"):
            work(loss)
