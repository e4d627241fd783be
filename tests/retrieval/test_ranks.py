"""Ranks of positives: against a slow definition, in tiles, in parts, in plain torch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apdist.retrieval import ranks
from apdist.retrieval.metrics import (
    QueryScores,
    RetrievalScores,
    score_labelled,
    score_labelled_rows,
)
from tests.retrieval.rankings import published_example


def slow_ranks(descriptors: Tensor, labels: Tensor) -> list[list[int]]:
    """Slow definition: sort every row by score, of equal ones positives last; no query itself."""
    scores = (descriptors.double() @ descriptors.double().T).float().tolist()
    found = []
    for query, row in enumerate(scores):
        hits = (labels == labels[query]).tolist()
        others = [r for r in range(len(row)) if r != query]
        order = sorted(others, key=lambda r: (-row[r], hits[r]))
        places = [place for place, r in enumerate(order) if hits[r]]
        found.append(places)
    return found


def fast_ranks(descriptors: Tensor, labels: Tensor, tile_size: int = 0) -> list[list[int]]:
    own = torch.arange(len(labels))
    tiles = ranks.ranks_of_positives(
        descriptors, labels, descriptors, labels, own_rows=own, tile_size=tile_size
    )
    return [
        row[:number].tolist()
        for found, numbers in tiles
        for row, number in zip(found, numbers.tolist(), strict=True)
    ]


def images(seed: int, number: int, kind: str, num_classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (number,), generator=generator)
    if kind == "tied":  # small integers: many equal scores
        return torch.randint(-1, 2, (number, 3), generator=generator).float(), labels
    noise = torch.randn(number, 40, generator=generator)
    if kind == "alike":  # scores nearer to each other than float32 sums can tell
        noise = 1 + 1e-4 * noise
    descriptors = torch.nn.functional.normalize(noise, dim=1)
    descriptors[number // 2 :] = descriptors[: number - number // 2].clone()  # copies tie
    return descriptors, labels


@given(
    seed=st.integers(0, 10_000),
    number=st.integers(2, 120),
    kind=st.sampled_from(["tied", "apart", "alike"]),
    num_classes=st.sampled_from([1, 2, 12, 60]),
    tile_size=st.sampled_from([0, 1, 7]),
)
@settings(max_examples=60, deadline=None)
def test_ranks_equal_their_slow_definition_for_few_and_for_many_positives(
    seed: int, number: int, kind: str, num_classes: int, tile_size: int
) -> None:
    descriptors, labels = images(seed, number, kind, num_classes)
    assert fast_ranks(descriptors, labels, tile_size) == slow_ranks(descriptors, labels)


def in_parts(descriptors: Tensor, labels: Tensor, num_workers: int, k: int) -> RetrievalScores:
    """What so many workers find, each by its share of the queries."""
    shares = [len(labels) * rank // num_workers for rank in range(num_workers + 1)]
    parts = [
        score_labelled_rows(
            descriptors, labels, slice(*shares[rank : rank + 2]), recall_at=(k,), map_at=(k,)
        )
        for rank in range(num_workers)
    ]
    values = torch.cat([part.values for part in parts])
    return QueryScores(parts[0].names, values, sum(part.curve for part in parts)).summary()


@pytest.mark.parametrize("kind", ["tied", "apart", "alike"])
@pytest.mark.parametrize("k", [3, 1000])
def test_neither_workers_nor_tiles_change_a_score(kind: str, k: int) -> None:
    # A class as large as a third of the set, and lone images: more results than images, too.
    descriptors, labels = images(1, 130, kind, 60)
    labels[::3] = 99
    expected = score_labelled(descriptors, labels, recall_at=(k,), map_at=(k,))
    found = [in_parts(descriptors, labels, size, k) for size in (1, 2, 3, 131)]
    found += [
        score_labelled(descriptors, labels, recall_at=(k,), map_at=(k,), tile_size=size)
        for size in (1, 50)
    ]
    for scores in found:
        for field in dataclasses.fields(RetrievalScores):
            pair = getattr(scores, field.name), getattr(expected, field.name)
            torch.testing.assert_close(*pair, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("kind", ["tied", "apart", "alike"])
def test_the_order_of_the_images_changes_no_figure(kind: str) -> None:
    descriptors, labels = images(5, 120, kind, 20)
    expected = score_labelled(descriptors, labels)
    for seed in range(3):
        order = torch.randperm(120, generator=torch.Generator().manual_seed(seed))
        found = score_labelled(descriptors[order], labels[order])
        assert found.average_precision.tolist() == pytest.approx(
            expected.average_precision[order].tolist(), abs=1e-12, nan_ok=True
        )
        assert found.recall_at == expected.recall_at


def test_more_results_than_images_find_every_positive() -> None:
    descriptors, labels = published_example()
    assert score_labelled(descriptors, labels, recall_at=(1000,)).recall_at == {1000: 1.0}


def test_descriptors_of_a_graph_are_scored() -> None:
    descriptors, labels = published_example()
    with_graph = score_labelled(descriptors.clone().requires_grad_(), labels)
    expected = score_labelled(descriptors, labels).mean_average_precision
    assert with_graph.mean_average_precision == expected
