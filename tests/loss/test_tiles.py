"""Tiles of the similarity matrix."""

from __future__ import annotations

import numpy as np
import pytest

from apdist.loss.tiles import Tiling, tiles_of


@pytest.mark.parametrize("n", [0, 1, 5, 600])
@pytest.mark.parametrize("tile_size", [1, 3, 512])
@pytest.mark.parametrize("part", ["all", "some", "none"])
def test_tiles_and_their_mirror_images_cover_the_own_rows_once(
    n: int, tile_size: int, part: str
) -> None:
    if n * n / tile_size > 1e4:
        tile_size = 300
    rows = {"all": slice(0, n), "some": slice(n // 3, n // 2), "none": slice(n // 2, n // 2)}[part]
    covered = np.zeros((n, n), int)
    for tile in tiles_of(n, rows, Tiling(tile_size, 2 * tile_size, 256)):
        assert tile.shape[0] <= tile_size
        assert tile.shape[1] <= 2 * tile_size
        covered[tile.rows, tile.columns] += 1
        if tile.mirrored:
            covered[tile.columns, tile.rows] += 1
    expected = np.zeros((n, n), int)
    expected[rows] = 1
    assert (covered == expected).all()


def test_the_tile_seen_last_is_the_largest_that_is_multiplied_whole() -> None:
    last = tiles_of(50, slice(0, 50), Tiling(20, 20, 20))[-1]
    assert (last.rows, last.columns, last.mirrored) == (slice(0, 20), slice(20, 40), True)
