"""Several indexes searched as one: the same as an index of all their images."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch

from apdist.retrieval.filters import parse_filter
from apdist.retrieval.index import build_index
from apdist.retrieval.search_index import SearchIndex
from apdist.retrieval.several import SeveralIndexes
from tests.retrieval.indexes import clustered, entries, needs_faiss, small_index

SIZES = {"a": 30, "b": 1, "ç d": 69}


def divided(kind: str = "exact") -> dict[str, SearchIndex]:
    """The images of one set in three indexes, some copies of others."""
    parts = copies().split(list(SIZES.values()))
    tables = [entries(count) for count in SIZES.values()]
    tables[2] = tables[2].append_column("price", pa.array(range(69)))
    return {
        name: build_index(part, table, kind=kind, model_id="m")
        for name, part, table in zip(SIZES, parts, tables, strict=True)
    }


def copies() -> torch.Tensor:
    descriptors = clustered(100, 8)
    descriptors[60:80] = descriptors[10:30]
    return descriptors


@pytest.mark.parametrize("k", [1, 7, 100, 1000])
def test_several_are_searched_as_one_of_all_their_images(k: int) -> None:
    whole = build_index(copies(), entries(100), kind="exact", model_id="m")
    several = SeveralIndexes(divided())
    queries = copies()[5:25]
    scores, rows = several.search(queries, k)
    expected_scores, expected_rows = whole.search(queries, k)
    torch.testing.assert_close(scores, expected_scores)
    assert rows.tolist() == expected_rows.tolist()
    assert len(several) == 100


@needs_faiss
def test_several_of_different_kinds_are_searched_together() -> None:
    indexes = divided()
    indexes["a"] = build_index(copies()[:30], entries(30), kind="flat", model_id="m")
    _, rows = SeveralIndexes(indexes).search(copies()[5:9], 3)
    assert rows[:, 0].tolist() == [5, 6, 7, 8]


def test_entries_name_the_index_and_have_the_columns_of_all() -> None:
    found = SeveralIndexes(divided()).entries
    assert found["index"].to_pylist() == ["a"] * 30 + ["b"] + ["ç d"] * 69
    assert found["price"].to_pylist() == [None] * 31 + list(range(69))
    assert found.take([0, 31])["key"].to_pylist() == ["bild 0 ü"] * 2


def test_a_column_of_that_name_gives_way_to_the_name_of_the_index() -> None:
    table = entries(30).append_column("index", pa.array(["own"] * 30))
    one = build_index(copies()[:30], table, kind="exact", model_id="m")
    found = SeveralIndexes({"a": one, "b": divided()["b"]}).entries
    assert found["index"].to_pylist() == ["a"] * 30 + ["b"]


def test_filters_see_the_columns_of_any_index_and_the_name_of_the_index() -> None:
    several, queries = SeveralIndexes(divided()), copies()[:3]
    all_scores = queries @ copies().T
    for texts, allowed in (
        (["price>=5", "price<9"], [36, 37, 38, 39]),
        (["index in b,a", "label<2"], [0, 1, 30]),
    ):
        scores, rows = several.search(queries, 10, where=parse_filter(texts))
        assert sorted(rows[0].tolist()) == allowed
        torch.testing.assert_close(scores, all_scores.gather(1, rows))
    mask = torch.zeros(100, dtype=torch.bool)
    assert several.search(queries, 5, where=mask)[1].shape == (3, 0)
    with pytest.raises(ValueError, match="no column 'prize'; did you mean 'price'"):
        several.search(queries, 5, where=parse_filter(["prize=3"]))


def test_columns_of_few_names_and_plain_ones_go_together() -> None:
    indexes = divided()
    names = pa.array(["x", "y", "x"] * 10).dictionary_encode()
    indexes["a"].entries = indexes["a"].entries.append_column("class", names)
    indexes["b"].entries = indexes["b"].entries.append_column("class", pa.array(["z"]))
    found = SeveralIndexes(indexes).entries["class"].to_pylist()
    assert found[:3] == ["x", "y", "x"]
    assert found[30:32] == ["z", None]


def test_what_cannot_be_searched_together_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="expected one index or more"):
        SeveralIndexes({})
    other = small_index(model_id="n")
    with pytest.raises(ValueError, match="second is of model n .8 dimensions. and a of model m"):
        SeveralIndexes({**divided(), "second": other})
    with pytest.raises(ValueError, match="b was built with model m, the queries come from model z"):
        SeveralIndexes({"b": divided()["b"]}).refuse_model("z", "x")
    mixed = divided()
    mixed["b"].entries = pa.table({"key": [3], "label": ["three"]})
    with pytest.raises(ValueError, match="columns of one name and different kinds"):
        SeveralIndexes(mixed).search(copies()[:1], 1, where=parse_filter(["label=3"]))
