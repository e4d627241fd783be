"""Any loss scored for a part of a batch."""

import pytest
import torch

from apdist.config.loss import Bins
from apdist.loss.baselines import Contrastive
from apdist.loss.centres import ArcFace
from apdist.loss.gradient import score_own_rows
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
