"""Nearest rows: order, ties, tiles, and what is no number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from apdist.retrieval import ranking
from apdist.retrieval.metrics import score_labelled
from apdist.retrieval.positives import score_tile
from apdist.retrieval.ranking import nearest_rows, ranking_keys
from tests.retrieval.rankings import published_example

WAYS = ["compiled", "torch"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the compiled loops, and as on a GPU or without numba; in tiles that do not come out."""
    monkeypatch.setattr(ranking, "has_numba", lambda: request.param == "compiled")
    monkeypatch.setattr(ranking, "_QUERIES_PER_TILE", 7)
    monkeypatch.setattr(ranking, "_LEAST_IMAGES_PER_TILE", 100)
    monkeypatch.setattr(ranking, "SCORES_PER_TILE", 100)
    return str(request.param)


def by_definition(queries: Tensor, database: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """All scores, sorted."""
    scores = score_tile(queries.float(), database.float())
    rows = scores.argsort(dim=1, descending=True, stable=True)[:, :k]
    return scores.gather(1, rows), rows


def test_ranking_keys_sort_as_the_scores_do() -> None:
    values = [0.5, -0.0, 0.0, -1.0, 1.0, 1e-40, -1e-40, 3e38, -3e38]
    keys = ranking_keys(torch.tensor([values]), torch.arange(len(values)))
    order = keys.argsort(dim=1)[0].tolist()
    assert order == sorted(range(len(values)), key=lambda i: (-values[i], i))


@pytest.mark.parametrize("k", [1, 10, 99, 730])
def test_nearest_rows_are_those_of_the_definition(way: str, k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    database = normalize(torch.randn(730, 24, generator=generator), dim=1)
    database[300:340] = database[17]  # equal scores, within a tile and across tiles
    database[700] = database[17]
    queries = torch.cat(
        [database[10:25], normalize(torch.randn(8, 24, generator=generator), dim=1)]
    )
    scores, rows = nearest_rows(queries, database, k)
    expected_scores, expected_rows = by_definition(queries, database, k)
    assert torch.equal(scores, expected_scores)
    assert torch.equal(rows, expected_rows)


def test_scores_that_float32_products_cannot_tell_apart_are_told_apart(way: str) -> None:
    generator = torch.Generator().manual_seed(1)
    query = normalize(torch.randn(1, 512, generator=generator), dim=1)
    # A network that describes all images nearly alike.
    database = normalize(query + 1e-4 * torch.randn(500, 512, generator=generator), dim=1)
    scores, rows = nearest_rows(query, database, 50)
    expected_scores, expected_rows = by_definition(query, database, 50)
    assert torch.equal(rows, expected_rows)
    assert torch.equal(scores, expected_scores)


def test_numbers_of_half_the_bits_are_searched_as_they_are(way: str) -> None:
    generator = torch.Generator().manual_seed(2)
    database = torch.randn(300, 8, generator=generator).half()
    queries = torch.randn(3, 8, generator=generator).double()
    scores, rows = nearest_rows(queries, database, 4)
    assert torch.equal(rows, by_definition(queries, database, 4)[1])
    assert scores.dtype == torch.float32


def test_nearest_rows_break_ties_by_row(way: str) -> None:
    scores, rows = nearest_rows(torch.ones(2, 2), torch.ones(250, 2), 3)
    assert rows.tolist() == [[0, 1, 2]] * 2
    assert scores.tolist() == [[2.0] * 3] * 2


def test_what_is_no_number_is_never_near(way: str) -> None:
    database = torch.ones(250, 2)
    database[:240] = torch.nan
    database[245] = -torch.inf
    assert nearest_rows(torch.ones(1, 2), database, 10)[1].tolist() == [
        [240, 241, 242, 243, 244, 246, 247, 248, 249, 245]
    ]
    with pytest.raises(ValueError, match="expected 11 results .* look for NaN"):
        nearest_rows(torch.ones(1, 2), database, 11)


def test_no_results_of_no_queries(way: str) -> None:
    assert [
        tuple(found.shape) for found in nearest_rows(torch.ones(0, 2), torch.ones(5, 2), 3)
    ] == [(0, 3)] * 2
    assert nearest_rows(torch.ones(4, 2), torch.ones(5, 2), 0)[1].shape == (4, 0)


def test_what_has_no_nearest_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="queries have 3 dimensions, the database 2"):
        nearest_rows(torch.ones(1, 3), torch.ones(5, 2), 1)
    with pytest.raises(ValueError, match="k must be from 0 to 5, got 6"):
        nearest_rows(torch.ones(1, 2), torch.ones(5, 2), 6)


@pytest.mark.parametrize("tile_size", [1, 3, 64])
def test_the_tile_size_does_not_change_the_ranking(tile_size: int) -> None:
    descriptors, labels = published_example()
    whole = score_labelled(descriptors, labels)
    tiled = score_labelled(descriptors, labels, tile_size=tile_size)
    torch.testing.assert_close(tiled.average_precision, whole.average_precision)
