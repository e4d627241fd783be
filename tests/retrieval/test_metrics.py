"""Metrics: against a slow definition, against figures of other implementations, and refusals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apdist.retrieval.metrics import RetrievalScores, score_labelled, score_queries
from tests.retrieval.rankings import published_example


def ranked_hits(
    scores: list[float], labels: list[int], query_label: int, left_out: int | None
) -> list[bool]:
    """Slow definition of a ranked list: best score first, of equal ones positives last."""
    rows = [row for row in range(len(scores)) if row != left_out]
    rows.sort(key=lambda row: (-scores[row], labels[row] == query_label))
    return [labels[row] == query_label for row in rows]


def slow_scores(hits: list[bool], k: int) -> dict[str, float]:
    """Slow definition of the metrics of one ranked list with at least one positive."""
    places = [place for place, hit in enumerate(hits, start=1) if hit]
    precisions = [sum(hits[:place]) / place for place in places]
    curve = [
        max(p for i, p in enumerate(precisions, start=1) if 100 * i >= level * len(places))
        for level in range(101)
    ]
    return {
        "ap": sum(precisions) / len(places),
        "recall": float(places[0] <= k),
        "map": sum(p for p, place in zip(precisions, places, strict=True) if place <= k)
        / min(k, len(places)),
        "map_at_r": sum(p for p, at in zip(precisions, places, strict=True) if at <= len(places))
        / len(places),
        "r_precision": sum(hits[: len(places)]) / len(places),
        "mrr": 1 / places[0],
        **{f"curve{level}": value for level, value in enumerate(curve)},
    }


def assert_equals_slow(
    scores: RetrievalScores, lists: list[list[bool]], k: int, total: int
) -> None:
    rows = [slow_scores(hits, k) for hits in lists if any(hits)]
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
    assert scores.mean_average_precision == pytest.approx(mean["ap"], abs=1e-12)
    assert scores.recall_at[k] == pytest.approx(mean["recall"], abs=1e-12)
    assert scores.map_at[k] == pytest.approx(mean["map"], abs=1e-12)
    assert scores.map_at_r == pytest.approx(mean["map_at_r"], abs=1e-12)
    assert scores.r_precision == pytest.approx(mean["r_precision"], abs=1e-12)
    assert scores.mean_reciprocal_rank == pytest.approx(mean["mrr"], abs=1e-12)
    curve = [mean[f"curve{level}"] for level in range(101)]
    assert scores.precision_at_recall.tolist() == pytest.approx(curve, abs=1e-12)
    assert scores.num_queries == total
    assert scores.num_queries_without_positive == total - len(rows)
    expected = [slow_scores(hits, k)["ap"] if any(hits) else math.nan for hits in lists]
    assert scores.average_precision.tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(
    seed=st.integers(0, 10_000),
    num_images=st.integers(2, 40),
    num_classes=st.integers(1, 12),
    k=st.integers(1, 12),
    tile_size=st.integers(0, 7),
)
@settings(max_examples=60, deadline=None)
def test_metrics_equal_their_slow_definition(
    seed: int, num_images: int, num_classes: int, k: int, tile_size: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    # Small integers: exact products with many ties, zeros and negative scores among them.
    descriptors = torch.randint(-1, 2, (num_images, 3), generator=generator).float()
    labels = torch.randint(0, num_classes, (num_images,), generator=generator)
    labels[-1] = labels[0]
    scores = descriptors @ descriptors.T
    lists = [
        ranked_hits(scores[i].tolist(), labels.tolist(), int(labels[i]), i)
        for i in range(num_images)
    ]
    found = score_labelled(descriptors, labels, recall_at=(k,), map_at=(k,), tile_size=tile_size)
    assert_equals_slow(found, lists, k, num_images)


def test_separate_queries_equal_the_slow_definition() -> None:
    generator = torch.Generator().manual_seed(1)
    queries = torch.randint(-2, 3, (17, 3), generator=generator).float()
    database = torch.randint(-2, 3, (29, 3), generator=generator).float()
    query_labels = torch.randint(-1, 9, (17,), generator=generator)
    labels = torch.randint(0, 9, (29,), generator=generator)
    scores = queries @ database.T
    lists = [
        ranked_hits(scores[i].tolist(), labels.tolist(), int(query_labels[i]), None)
        for i in range(17)
    ]
    found = score_queries(queries, query_labels, database, labels, recall_at=(3,), map_at=(3,))
    assert found.num_queries_without_positive > 0
    assert_equals_slow(found, lists, 3, 17)


def test_metrics_equal_those_of_pytorch_metric_learning() -> None:
    descriptors, labels = published_example()
    scores = score_labelled(descriptors, labels)
    assert scores.mean_average_precision == pytest.approx(0.511227726501, abs=1e-6)
    assert scores.recall_at[1] == pytest.approx(0.613333333333, abs=1e-6)
    assert scores.map_at_r == pytest.approx(0.357144586602, abs=1e-6)
    assert scores.r_precision == pytest.approx(0.45531000481, abs=1e-6)
    assert scores.mean_reciprocal_rank == pytest.approx(0.733285069466, abs=1e-6)


def test_map_at_k_beyond_every_class_equals_map_cut_at_k() -> None:
    descriptors, labels = published_example()
    most_positives = int(labels.bincount().max()) - 1
    scores = score_labelled(descriptors, labels, map_at=(most_positives,))
    assert scores.map_at[most_positives] == pytest.approx(0.413630020392, abs=1e-6)


def test_map_at_k_divides_by_the_smaller_of_k_and_the_number_of_positives() -> None:
    # Ranking 1 0 1 1 0 0 1 0 of a query with six positives, two of them out of the top eight.
    hits = [1, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1]
    angles = torch.linspace(0.1, 1.4, len(hits))
    database = torch.stack([angles.cos(), angles.sin()], dim=1)
    scores = score_queries(
        torch.tensor([[1.0, 0.0]]), torch.tensor([1]), database, torch.tensor(hits), map_at=(5,)
    )
    assert scores.map_at[5] == pytest.approx(0.483333333333, abs=1e-9)


def test_equal_scores_count_against_the_query() -> None:
    scores = score_queries(
        torch.ones(1, 2), torch.tensor([1]), torch.ones(4, 2), torch.tensor([0, 0, 1, 0])
    )
    assert scores.mean_reciprocal_rank == pytest.approx(1 / 4)


def test_queries_without_a_positive_leave_the_means_alone() -> None:
    descriptors, labels = published_example()
    alone = torch.nn.functional.normalize(torch.randn(1, 12, dtype=torch.float64), dim=1)
    queries, query_labels = torch.cat([descriptors, alone]), torch.cat([labels, torch.tensor([99])])
    without = score_queries(descriptors, labels, descriptors, labels)
    with_it = score_queries(queries, query_labels, descriptors, labels)
    assert with_it.num_queries_without_positive == 1
    assert with_it.num_queries == 151
    assert with_it.average_precision[-1].isnan()
    assert with_it.mean_average_precision == without.mean_average_precision
    assert with_it.recall_at == without.recall_at


def test_a_perfect_ranking_scores_one_everywhere() -> None:
    scores = score_labelled(torch.eye(4).repeat_interleave(3, 0), torch.arange(12) // 3)
    figures = [scores.mean_average_precision, scores.r_precision, scores.mean_reciprocal_rank]
    assert figures == [1.0, 1.0, 1.0]
    assert set(scores.recall_at.values()) | set(scores.map_at.values()) == {1.0}
    assert scores.precision_at_recall.tolist() == [1.0] * 101


@pytest.mark.parametrize(
    ("descriptors", "labels", "message"),
    [
        (torch.ones(3, 2), torch.tensor([0, 0]), r"labels: expected \(3,\)"),
        (torch.ones(3), torch.tensor([0, 0, 0]), "expected descriptors"),
        (torch.ones(0, 2), torch.zeros(0, dtype=torch.int64), "n >= 1"),
        (torch.ones(2, 2), torch.tensor([0.0, 0.0]), "labels must be integers"),
        (torch.tensor([[1.0], [torch.nan]]), torch.tensor([0, 0]), r"first row: 1"),
        (torch.ones(3, 2), torch.tensor([0, 1, 2]), "none of the 3 queries has a positive"),
    ],
)
def test_bad_descriptors_and_labels_are_refused(
    descriptors: Tensor, labels: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score_labelled(descriptors, labels)


def test_a_depth_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        score_labelled(torch.ones(2, 2), torch.tensor([0, 0]), recall_at=(0,))


def test_queries_of_another_dimension_are_refused() -> None:
    labels = torch.tensor([0, 0])
    with pytest.raises(ValueError, match="queries have 3 dimensions, the database 2"):
        score_queries(torch.ones(2, 3), labels, torch.ones(2, 2), labels)
