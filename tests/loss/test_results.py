"""By-products of the loss, against counts of all pairs."""

from __future__ import annotations

import pytest
import torch

from apdist.config.loss import Bins
from apdist.loss.listwise import (
    AveragePrecisionLoss,
    average_precision_from_scores,
)
from tests.reference import (
    unit_rows,
)


def test_diagnostics_count_pairs_by_bin_and_positives_pushed_apart() -> None:
    rows, labels = unit_rows(80, 3, seed=10), torch.arange(80) % 20
    loss = AveragePrecisionLoss(num_bins=30, tile_size=19)
    loss(rows, labels)
    found = loss.diagnostics
    assert found is not None
    assert found.positive_histogram.sum().item() == pytest.approx(80 * 3)
    assert found.negative_histogram.sum().item() == pytest.approx(80 * 76)
    scores = rows @ rows.T
    positive = (labels[:, None] == labels) & ~torch.eye(80, dtype=torch.bool)
    near = (1 - (scores - 1 + 2 / 29).abs() / (2 / 29)).clamp(min=0)
    assert found.positive_histogram[1].item() == pytest.approx(near[positive].sum().item())
    # A score between two centres counts for both, by its distance: means come out exact.
    for kind, pairs in (("positive", positive), ("negative", labels[:, None] != labels)):
        mean = found.mean_score(kind, Bins(num_bins=30))  # type: ignore[arg-type]
        assert mean == pytest.approx(scores[pairs].mean().item(), abs=1e-12)
    # The derivative by each score, from the definition.
    scores.requires_grad_()
    ignore = torch.eye(80, dtype=torch.bool)
    average_precision_from_scores(scores, positive, num_bins=30, ignore=ignore).mean().backward()
    assert scores.grad is not None
    wrong = (scores.grad[positive] < 0).double().mean().item()
    assert 0 < wrong < 0.5
    assert found.wrong_sign_share == pytest.approx(wrong)
