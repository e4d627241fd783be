"""What is far from everything is found; a rare view of a class is not."""

import numpy as np
import torch
from torch.nn.functional import normalize

from apdist.audit.candidates import neighbours
from apdist.audit.outliers import find_outliers


def test_strays_are_found_the_farthest_first() -> None:
    torch.manual_seed(0)
    centres = torch.randn(5, 32)
    labels = torch.arange(5).repeat_interleave(20)
    points = centres[labels] + 0.4 * torch.randn(100, 32)
    points[7], points[50] = 9 * torch.randn(32), -points.mean(dim=0)
    scores, rows = (part.numpy() for part in neighbours(normalize(points, dim=1), 8))
    found = find_outliers(scores, rows, labels.numpy())
    assert {each.row for each in found} == {7, 50}
    assert found[0].similarity <= found[1].similarity < found[0].usual
    for each in found:
        assert each.nearest == rows[each.row, 0]


def test_without_neighbours_there_are_none() -> None:
    scores, rows = np.full((4, 3), np.nan, np.float32), np.full((4, 3), -1)
    assert find_outliers(scores, rows, np.zeros(4, np.int64)) == []


def test_a_pair_of_a_rare_view_is_none_of_them() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(0.8, 0.01, (20, 5)).astype(np.float32)
    scores[0] = (0.95, 0.1, 0.1, 0.1, 0.1)
    rows = np.array([[(row + step) % 20 for step in range(1, 6)] for row in range(20)])
    labels = np.zeros(20, np.int64)
    assert find_outliers(scores, rows, labels) == []
    labels[0] = 1
    assert [found.row for found in find_outliers(scores, rows, labels)] == [0]
