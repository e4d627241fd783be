"""Search in memory: exact and approximate, with its recall, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from apdist.retrieval import search_index
from apdist.retrieval.approximate import faiss_index
from apdist.retrieval.filters import parse_filter
from apdist.retrieval.index import build_index
from apdist.retrieval.search_index import measure_recall
from tests.retrieval.indexes import (
    ALL_KINDS,
    big_index,
    clustered,
    entries,
    needs_faiss,
    small_index,
)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_finds_the_nearest_images(kind: str) -> None:
    descriptors, index = clustered(), big_index(kind)
    queries = torch.nn.functional.normalize(descriptors[:50] + 0.02, dim=1)
    scores, rows = index.search(queries, 5)
    expected_scores, expected_rows = (queries @ descriptors.T).topk(5)
    assert scores.shape == rows.shape == (50, 5)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    torch.testing.assert_close(scores, (descriptors[rows] @ queries[:, :, None])[:, :, 0])
    agreement = (rows == expected_rows).float().mean()
    assert agreement == 1.0 if kind in ("exact", "flat") else agreement > 0.95
    if kind in ("exact", "flat"):
        torch.testing.assert_close(scores, expected_scores)


def test_a_small_index_returns_all_its_images() -> None:
    scores, rows = small_index().search(clustered(40, 8)[:3], 100)
    assert scores.shape == (3, 40)
    assert sorted(rows[0].tolist()) == list(range(40))


def test_read_only_arrays_and_half_precision_are_searched() -> None:
    queries = clustered(40, 8)
    frozen = queries.numpy().astype(np.float16)
    frozen.flags.writeable = False
    scores, rows = small_index().search(frozen, 1)
    assert rows[:, 0].tolist() == list(range(40))
    # Cosine similarity, free of what half precision does to the length.
    torch.testing.assert_close(scores, torch.ones(40, 1), atol=1e-6, rtol=0)


def test_no_queries_give_no_results() -> None:
    scores, rows = small_index().search(torch.ones(0, 8), 3)
    assert scores.shape == rows.shape == (0, 3)


@needs_faiss
def test_a_query_that_finds_too_little_in_its_lists_looks_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faiss_index, "_IMAGES_PER_RESULT", 0)  # one list, whatever k is
    descriptors = clustered()
    index = build_index(descriptors, entries(1000), kind="ivf", model_id="m")
    assert index.faiss_index is not None
    index.faiss_index.cpu_index.nprobe = 1
    for k in (1, 10, 900):
        found = index.faiss_index.search(descriptors, descriptors, k)[1]
        assert (found >= 0).all()
        assert all(len({*rows}) == k for rows in found.tolist())
    exact = (descriptors[:9] @ descriptors.T).topk(900).indices
    _, rows = index.search(descriptors[:9], 900)
    assert (
        np.mean([len({*a} & {*b}) for a, b in zip(rows.tolist(), exact.tolist(), strict=True)])
        > 855
    )


@needs_faiss
@pytest.mark.parametrize("filtered", [False, True])
def test_queries_for_which_faiss_finds_too_few_images_are_searched_exactly(
    monkeypatch: pytest.MonkeyPatch, filtered: bool
) -> None:
    descriptors = clustered()
    monkeypatch.setattr(search_index, "_LEAST_ROWS", 100)
    index = build_index(descriptors, entries(1000), kind="hnsw", model_id="m")
    assert index.faiss_index is not None
    whole = index.faiss_index.search

    def cut(*arguments: Any) -> tuple[Tensor, Tensor]:
        scores, rows = whole(*arguments)
        scores[::2, 5:], rows[::2, 5:] = -torch.inf, -1
        return scores, rows

    monkeypatch.setattr(index.faiss_index, "search", cut)
    allowed = torch.arange(1000) % 2 == 1 if filtered else torch.ones(1000, dtype=torch.bool)
    _, rows = index.search(descriptors[:9], 40, where=allowed)
    expected = (descriptors[:9] @ descriptors.T).masked_fill(~allowed, -2).topk(40)
    assert rows[::2].tolist() == expected.indices[::2].tolist()


@needs_faiss
def test_recall_says_how_many_of_the_true_neighbours_are_found() -> None:
    descriptors = clustered()
    index = build_index(descriptors, entries(1000), kind="ivf", model_id="m")
    assert index.settings["recall_at_10"] > 0.9
    assert index.faiss_index is not None
    index.faiss_index.cpu_index.nprobe = 1
    neighbours = (descriptors @ descriptors.T).fill_diagonal_(-1).topk(10).indices
    _, rows = index.search(descriptors, 11)
    slow = np.mean(
        [len({*a} & {*b}) for a, b in zip(rows.tolist(), neighbours.tolist(), strict=True)]
    )
    recall = measure_recall(index)
    assert recall is not None
    assert recall < 0.95
    assert recall == pytest.approx(slow / 10, abs=0.03)


def test_exact_search_has_recall_one_and_a_single_image_has_none() -> None:
    assert small_index().settings["recall_at_10"] == 1.0
    lonely = build_index(torch.ones(1, 1), entries(1), kind="exact", model_id="m")
    assert lonely.settings["recall_at_10"] is None


def test_copies_of_an_image_do_not_lower_the_recall() -> None:
    copies = torch.nn.functional.normalize(torch.ones(30, 4), dim=1)
    index = build_index(copies, entries(30), kind="auto", model_id="m")
    assert index.settings["recall_at_10"] == 1.0


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        (torch.ones(40), r"expected descriptors \(n, d\)"),
        (2 * clustered(40, 8), "40 of 40 descriptors are not of unit length"),
        (torch.zeros(40, 8), "are not of unit length"),
        (torch.full((40, 8), torch.nan), "hold NaN or infinity"),
        (clustered(50, 8), "40 entries and 50 descriptors"),
    ],
)
def test_bad_descriptors_are_refused(descriptors: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_index(descriptors, entries(40), kind="exact", model_id="m")


def test_impossible_searches_and_kinds_are_refused() -> None:
    index = small_index()
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        index.search(clustered(40, 8), 0)
    with pytest.raises(ValueError, match="holds 8 dimensions, the queries have 4"):
        index.search(clustered(40, 4), 1)
    with pytest.raises(ValueError, match="not of unit length"):
        index.search(torch.ones(1, 8), 1)
    with pytest.raises(ValueError, match="kind must be one of auto, exact"):
        small_index("annoy")
    with pytest.raises(ValueError, match="at least one"):
        build_index(torch.ones(0, 8), entries(0), kind="exact", model_id="m")


def test_entries_of_another_model_are_refused_by_name() -> None:
    table = entries(40).append_column("model", [["m"] * 39 + ["other"]])
    with pytest.raises(ValueError, match="entries of model other in an index of model m; describe"):
        build_index(clustered(40, 8), table, kind="exact", model_id="m")
    index = build_index(clustered(40, 8), table.set_column(2, "model", [["m"] * 40]), model_id="m")
    index.refuse_model("m", "mine")
    with pytest.raises(
        ValueError, match="mine was built with model m, the queries come from model x"
    ):
        index.refuse_model("x", "mine")


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("share", [0.0, 0.004, 0.5, 1.0])
def test_a_filter_gives_the_nearest_of_those_that_it_lets_through(
    kind: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors, index = clustered(), big_index(kind)
    monkeypatch.setattr(search_index, "_LEAST_ROWS", 100)
    allowed = torch.rand(1000, generator=torch.Generator().manual_seed(1)) < share
    queries = torch.nn.functional.normalize(descriptors[:50] + 0.02, dim=1)
    scores, rows = index.search(queries, 7, where=allowed)
    k = min(7, int(allowed.sum()))
    expected = (queries @ descriptors.T).masked_fill(~allowed, -2).topk(k)
    assert scores.shape == rows.shape == (50, k)
    assert allowed[rows].all()
    torch.testing.assert_close(scores, (descriptors[rows] @ queries[:, :, None])[:, :, 0])
    agreement = (rows == expected.indices).float().mean() if k else 1.0
    assert agreement == 1.0 if kind in ("exact", "flat") else agreement > 0.95


def test_filtered_rows_are_searched_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = clustered(40, 8)
    copies[20:] = copies[:20].clone()
    index = build_index(copies, entries(40), kind="exact", model_id="m")
    allowed = torch.arange(40) % 3 != 0
    whole = index.search(copies[:9], 30, where=allowed)
    monkeypatch.setattr(search_index, "_ROWS_AT_ONCE", 7)
    parts = index.search(copies[:9], 30, where=allowed)
    assert whole[1].tolist() == parts[1].tolist()
    torch.testing.assert_close(whole[0], parts[0])


def test_filters_read_the_entries_and_odd_masks_are_refused() -> None:
    index, queries = small_index(), clustered(40, 8)[:2]
    _, rows = index.search(queries, 5, where=parse_filter(["label>35"]))
    for told in ("label>35", ["label>35"]):
        assert torch.equal(index.search(queries, 5, where=told)[1], rows)
    with pytest.raises(ValueError, match="5 is no condition"):
        index.search(queries, 5, where=[5])  # type: ignore[list-item]
    assert sorted(rows[0].tolist()) == [36, 37, 38, 39]
    for mask in (torch.ones(40), torch.ones(39, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"where: expected a filter or \(40,\) bool"):
            index.search(queries, 5, where=mask)
