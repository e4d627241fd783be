"""Scores that come out the same on every device."""

import torch

from apdist.retrieval.positives import score_tile


def test_scores_are_summed_in_float64_and_rounded_once() -> None:
    # In float32 the large numbers swallow the small one.
    query = torch.tensor([[1e8, 1.0, -1e8]])
    scores = score_tile(query, torch.ones(2, 3))
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[1.0, 1.0]]
