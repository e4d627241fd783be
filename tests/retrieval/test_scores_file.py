"""Scores on disk."""

import math
from pathlib import Path

import pytest
import torch

from apdist.retrieval.metrics import score_labelled
from apdist.retrieval.scores_file import read_scores, write_scores


def test_scores_come_back_with_queries_that_have_none(tmp_path: Path) -> None:
    scores = score_labelled(torch.eye(5), torch.tensor([0, 0, 1, 1, 2]))
    write_scores(scores, str(tmp_path / "scores.json"))
    found = read_scores(str(tmp_path / "scores.json"))
    assert found.mean_average_precision == scores.mean_average_precision
    assert (found.recall_at, found.map_at) == (scores.recall_at, scores.map_at)
    assert math.isnan(found.average_precision[4])
    torch.testing.assert_close(
        found.average_precision, scores.average_precision, atol=1e-6, rtol=0, equal_nan=True
    )
    torch.testing.assert_close(
        found.precision_at_recall, scores.precision_at_recall, atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"average_precision": 3}'])
def test_a_file_without_scores_is_refused_with_its_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(ValueError, match=r"scores.json holds no scores or is damaged; evaluate"):
        read_scores(str(tmp_path / "scores.json"))
