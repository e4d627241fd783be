"""Trees: their boxes fill the cube, and main effects are those of the definition."""

from __future__ import annotations

import numpy as np

from apdist.report.sweeps.forest import Tree, grow


def grown(seed: int = 0) -> tuple[Tree, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    points = random.random((60, 3))
    points[:, 2] = (np.floor(3 * points[:, 2]) + 0.5) / 3
    values = points[:, 0] + 2 * (points[:, 2] > 0.4) + points[:, 0] * points[:, 1]
    return grow(points, values, np.array([0.0, 0.0, 3.0]), random), points, values


def test_every_point_lies_in_one_box_whose_value_is_the_mean_of_its_rows() -> None:
    tree, points, values = grown()
    everywhere = np.random.default_rng(1).random((500, 3))
    is_in = (everywhere[:, None] >= tree.low) & (everywhere[:, None] < tree.high)
    assert (is_in.all(axis=2).sum(axis=1) == 1).all()
    found = tree.predict(points)
    for value in np.unique(found):
        np.testing.assert_allclose(values[found == value].mean(), value)
    assert len(tree.values) > 5


def test_cuts_of_cells_lie_between_them() -> None:
    tree, _, _ = grown()
    borders = np.unique(np.concatenate([tree.low[:, 2], tree.high[:, 2]]))
    np.testing.assert_allclose(borders * 3, np.round(borders * 3))


def test_shares_are_the_variances_of_means_over_the_other_columns() -> None:
    tree, _, _ = grown()
    parts, total = tree.shares()
    side = (np.arange(30) + 0.5) / 30
    grid = np.stack(np.meshgrid(side, side, side, indexing="ij"), axis=-1)
    values = tree.predict(grid.reshape(-1, 3)).reshape(30, 30, 30)
    slow = [
        values.mean(axis=tuple(other for other in range(3) if other != column)).var()
        for column in range(3)
    ]
    np.testing.assert_allclose(parts, slow, rtol=0.05, atol=2e-3)
    np.testing.assert_allclose(total, values.var(), rtol=0.05)


def test_rows_that_are_alike_are_one_leaf() -> None:
    random = np.random.default_rng(0)
    alike = np.full((10, 2), 0.5)
    assert len(grow(alike, np.arange(10.0), np.zeros(2), random).values) == 1
    assert len(grow(random.random((10, 2)), np.ones(10), np.zeros(2), random).values) == 1
