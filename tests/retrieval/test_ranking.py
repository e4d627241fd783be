"""Exact ranks and nearest rows: ties, order, tiles."""

from __future__ import annotations

import pytest
import torch

from apdist.retrieval.metrics import score_labelled
from apdist.retrieval.ranking import nearest_rows, ranking_keys
from tests.retrieval.rankings import published_example


def test_ranking_keys_sort_as_the_scores_do() -> None:
    values = [0.5, -0.0, 0.0, -1.0, 1.0, 1e-40, -1e-40, 3e38, -3e38]
    order = ranking_keys(torch.tensor([values])).argsort(dim=1)[0].tolist()
    assert order == sorted(range(len(values)), key=lambda i: (-values[i], i))


def test_nearest_rows_break_ties_by_row() -> None:
    scores, rows = nearest_rows(torch.ones(2, 2), torch.ones(5, 2), 3)
    assert rows.tolist() == [[0, 1, 2]] * 2
    assert scores.tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("tile_size", [1, 3, 64])
def test_the_tile_size_does_not_change_the_ranking(tile_size: int) -> None:
    descriptors, labels = published_example()
    whole = score_labelled(descriptors, labels)
    tiled = score_labelled(descriptors, labels, tile_size=tile_size)
    torch.testing.assert_close(tiled.average_precision, whole.average_precision)
