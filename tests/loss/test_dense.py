"""The dense definition: average precision from any scores."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.loss.listwise import (
    average_precision_from_scores,
    average_precision_loss,
)
from tests.loss.test_listwise import CASES, score_range
from tests.reference import (
    binned_average_precision,
    unit_rows,
)


@pytest.mark.parametrize("case", CASES["scores"], ids=lambda case: case["id"])
def test_scores_have_the_published_average_precision_and_gradient(case: dict[str, Any]) -> None:
    scores = torch.tensor(case["scores"], dtype=torch.float64, requires_grad=True)
    found = average_precision_from_scores(
        scores,
        torch.tensor(case["labels"]).bool(),
        num_bins=case["num_bins"],
        **score_range(case),
        variant=case["variant"],
    )
    torch.testing.assert_close(found.tolist(), case["average_precision"], rtol=0, atol=1e-9)
    if "gradient" in case:
        (1 - found.mean()).backward()
        assert scores.grad is not None
        torch.testing.assert_close(scores.grad.tolist(), case["gradient"], rtol=0, atol=1e-9)


def test_ignored_scores_are_as_if_they_were_not_there() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.3, -0.2]])
    positive = torch.tensor([[True, False, False, True]])
    ignore = torch.tensor([[False, True, False, False]])
    found = average_precision_from_scores(scores, positive, num_bins=7, ignore=ignore)
    kept = [0.9, 0.3, -0.2]
    expected = binned_average_precision(
        torch.tensor(kept).tolist(), [True, False, True], num_bins=7
    )
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_autocast_changes_no_bit_of_the_dense_loss() -> None:
    rows, labels = unit_rows(50, 16, seed=14, dtype=torch.float32), torch.arange(50) // 2
    expected = average_precision_loss(rows, labels, backend="dense")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert average_precision_loss(rows, labels, backend="dense") == expected


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [
        (torch.zeros(3), torch.zeros(3).bool(), r"shape \(q, n\)"),
        (torch.zeros(2, 3), torch.zeros(3, 2).bool(), r"positive must be bool of shape \(2, 3\)"),
        (torch.zeros(2, 3), torch.zeros(2, 3), "positive must be bool"),
        (torch.full((2, 3), torch.nan), torch.zeros(2, 3).bool(), "scores must be finite.*row 0"),
    ],
)
def test_bad_scores_are_refused(scores: Tensor, positive: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision_from_scores(scores, positive)
