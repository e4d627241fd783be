"""Any loss scored for a part of a batch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apdist.config.loss import Bins
from apdist.loss.baselines import Contrastive
from apdist.loss.centres import ArcFace
from apdist.loss.gradient import score_own_rows
from apdist.loss.results import RowScores
from tests.reference import unit_rows

DESCRIPTORS, LABELS = unit_rows(12, 4, seed=0), torch.arange(12) // 3


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


def scored(loss: Callable[[Tensor, Tensor], Any]) -> RowScores:
    """Of all rows, in float32."""
    return score_own_rows(
        loss,
        *(DESCRIPTORS.float(), LABELS, slice(0, 12)),
        sum_over_workers=lambda x: x,
        gather_rows=lambda x: x,
    )


def products(descriptors: Tensor, labels: Tensor) -> Tensor:
    return (descriptors @ descriptors.T)[labels[:, None] != labels].sum()


def test_a_loss_is_computed_in_the_precision_of_its_descriptors() -> None:
    expected = products(DESCRIPTORS.float(), LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        assert scored(products).loss == expected


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (lambda d: 0.5, "got 0.5"),
        (lambda d: d.sum(dim=1), r"got tensor\(\["),
        (lambda d: d.sum() / 0, r"got tensor\(-?(inf|nan)\)"),
    ],
    ids=["no tensor", "several", "infinite"],
)
def test_a_loss_that_is_not_one_finite_number_is_refused(
    found: Callable[[Tensor], Any], told: str
) -> None:
    with pytest.raises(ValueError, match=f"must return one finite number as a tensor, {told}"):
        scored(lambda descriptors, labels: found(descriptors))


class Idle(nn.Module):
    """With a parameter that takes no part."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(2))

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        return products(descriptors, labels)


def test_a_parameter_that_a_loss_does_not_use_has_no_gradient() -> None:
    assert scored(Idle()).parameter_gradients == (None,)


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
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3])
    descriptors = unit_rows(7, 4, seed=1)
    found = score_own_rows(
        Contrastive(),
        descriptors,
        labels,
        slice(0, 7),
        sum_over_workers=lambda x: x,
        gather_rows=lambda x: x,
    ).diagnostics
    scores = descriptors @ descriptors.T
    same = labels[:, None] == labels[None, :]
    for kind, pairs in (("positive", same & ~torch.eye(7, dtype=torch.bool)), ("negative", ~same)):
        expected = float(scores[pairs].mean())
        assert found.mean_score(kind, Bins(num_bins=2)) == pytest.approx(expected, abs=1e-6)  # type: ignore[arg-type]
    assert (found.num_queries, found.num_lone_queries) == (5, 2)
    assert float(found.positive_histogram.sum()) == 8
    assert float(found.negative_histogram.sum()) == 34


@pytest.mark.parametrize("rows", [slice(0, 12), slice(4, 9), slice(12, 12)])
def test_every_worker_gets_the_whole_gradient_of_the_parameters_of_a_loss(rows: slice) -> None:
    torch.manual_seed(0)
    loss = ArcFace(LABELS, 4, scale=5.0)
    loss(DESCRIPTORS, LABELS).backward()
    found = score_own_rows(
        loss,
        *(DESCRIPTORS, LABELS, rows),
        sum_over_workers=lambda x: x,
        gather_rows=lambda x: x,
    )
    (gradient,) = found.parameter_gradients
    assert gradient is not None
    assert torch.equal(gradient, loss.centres.grad)  # type: ignore[arg-type]
    assert found.listwise_loss is None
