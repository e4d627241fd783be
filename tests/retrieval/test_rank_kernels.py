"""Compiled loops over the scores of a strip."""

import numpy as np
import torch

from apdist.retrieval.positives import score_tile
from apdist.retrieval.rank_kernels import leave_out, longest_square, score_rows


def test_images_with_the_label_of_the_query_are_left_out_where_the_strip_has_them() -> None:
    scores = np.ones((2, 4), np.float32)
    rows_by_label = np.array([1, 5, 8, 9, 2, 3, 4, 6])
    leave_out(scores, 5, rows_by_label, np.array([0, 4]), np.array([4, 8]))  # rows 5 to 8
    assert np.isnan(scores).tolist() == [[True, False, False, True], [False, True, False, False]]


def test_scores_of_listed_rows_are_those_of_a_tile() -> None:
    random = torch.Generator().manual_seed(0)
    queries, database = (torch.randn(n, 7, generator=random) for n in (3, 9))
    rows = torch.tensor([[0, 8], [3, 3], [5, 1]])
    scores = np.empty((3, 2), np.float32)
    score_rows(queries.numpy(), database.numpy(), rows.numpy(), scores)
    expected = score_tile(queries, database).gather(1, rows)
    torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=1e-7, atol=0)


def test_the_longest_row_is_that_of_the_definition() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 37)).astype(np.float32)
    assert np.isclose(longest_square(rows), (rows**2).sum(axis=1).max(), rtol=1e-5)


def test_scores_of_a_tile_are_summed_in_float64_and_rounded_once() -> None:
    # In float32 the large numbers swallow the small one.
    scores = score_tile(torch.tensor([[1e8, 1.0, -1e8]]), torch.ones(2, 3))
    assert scores.dtype == torch.float32
    assert scores.tolist() == [[1.0, 1.0]]
