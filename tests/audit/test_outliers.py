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
