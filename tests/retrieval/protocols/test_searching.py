"""Figures of descriptors against slow definitions over random ground truths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.retrieval.protocols.scores import GRADED, UNGRADED
from apdist.retrieval.protocols.searching import score_judged
from tests.retrieval.protocols.test_rules import slow

BOX = (0.0, 0.0, 1.0, 1.0)


def slow_hits(
    query: JudgedQuery, names: tuple[str, ...], scores: dict[str, float], more: list[float]
) -> list[bool]:
    """Right and wrong of a ranked list: sorted, of equal scores the wrong ones first."""
    positives = {key for name in names for key in getattr(query, name)}
    junk = set(query.judged()) - positives
    if query.key not in positives:
        junk.add(query.key)
    listed = [(-score, key in positives) for key, score in scores.items() if key not in junk]
    listed += [(-score, False) for score in more]
    return [hit for _, hit in sorted(listed)]


def check(
    truth: GroundTruth, queries: Any, database: Any, keys: list[str], distractors: Any = ()
) -> None:
    """Compare all figures, of every query and the means."""
    found = score_judged(queries, database, keys, truth, distractors=distractors)
    parts = GRADED if truth.is_graded else UNGRADED
    assert [scores.part for scores in found] == list(parts)
    more = np.concatenate(distractors) if len(distractors) else np.empty((0, len(database[0])))
    for scores in found:
        rows = []
        for query, descriptor in zip(truth.queries, np.asarray(queries, "f8"), strict=True):
            names = parts[scores.part]
            products = np.asarray(database, "f8") @ descriptor
            hits = slow_hits(
                query,
                names,
                dict(zip(keys, products.astype("f4"), strict=True)),
                (np.asarray(more, "f8") @ descriptor).astype("f4").tolist(),
            )
            number = sum(len(getattr(query, name)) for name in names)
            if number:
                rows.append(
                    slow(hits, number, 5)
                    | slow(hits, number, 100)
                    | slow(hits, number, 1000)
                    | slow(hits, number, 10)
                    | slow(hits, number, 1)
                )
        for key, value in scores.figures.items():
            mean = sum(row[key] for row in rows) / len(rows)
            assert value == pytest.approx(mean, abs=1e-6), (scores.part, key)
        assert scores.num_queries_without_positive == len(truth.queries) - len(rows)


@st.composite
def judged_sets(draw: Any) -> tuple[GroundTruth, list[str], int]:
    """Random judgements: junk anywhere, queries without positives, queries in the database."""
    number = draw(st.integers(4, 24))
    keys = [f"i{row}" for row in range(number)]
    graded, seed = draw(st.booleans()), draw(st.integers(0, 9999))
    random = np.random.default_rng(seed)
    queries = []
    for place in range(draw(st.integers(1, 5))):
        own = f"i{place}" if draw(st.booleans()) else f"q{place}"
        # The first has positives of every kind, so that no part is without.
        least = 1 if place == 0 else 0
        order = [key for key in random.permutation(keys).tolist() if key != own]
        cuts = np.sort(random.integers(0, len(order) // 2, 2)) + np.array([least, 2 * least])
        first, second = order[: cuts[0]], order[cuts[0] : cuts[1]]
        third = order[cuts[1] : cuts[1] + int(random.integers(0, 4))]
        lists = (
            {"easy": tuple(first), "hard": tuple(second)} if graded else {"positives": tuple(first)}
        )
        queries.append(JudgedQuery(key=own, junk=tuple(third), **lists))
    return GroundTruth(protocol="own", queries=tuple(queries)), keys, seed


def descriptors(seed: int, number: int, kind: str) -> Any:
    random = np.random.default_rng(seed + 1)
    if kind == "tied":  # small integers: many equal scores, and equal images
        return random.integers(-1, 2, (number, 3)).astype("f4")
    values = random.standard_normal((number, 16))
    values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype("f4")
    values[number // 2 :] = values[: number - number // 2]  # each image twice
    return values


@given(set_=judged_sets(), kind=st.sampled_from(["tied", "twice"]), num_more=st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_figures_equal_their_slow_definitions(set_: Any, kind: str, num_more: int) -> None:
    truth, keys, seed = set_
    rows = descriptors(seed, len(truth.queries) + len(keys) + num_more, kind)
    queries, rest = rows[: len(truth.queries)], rows[len(truth.queries) :]
    database, more = rest[: len(keys)], rest[len(keys) :]
    check(truth, queries, database, keys, [more[:2], more[2:]] if num_more else ())


def example(protocol: Any = "own") -> tuple[GroundTruth, Any, Any, list[str]]:
    random = np.random.default_rng(3)
    keys = [f"i{row}" for row in range(300)]
    chosen = [random.permutation(keys).tolist() for _ in range(7)]
    truth = GroundTruth(
        protocol=protocol,
        queries=tuple(
            JudgedQuery(key=f"q{i}", positives=tuple(c[: 3 * i + 1]), junk=tuple(c[40:60]))
            for i, c in enumerate(chosen)
        ),
    )
    rows = descriptors(5, 307, "twice")
    return truth, rows[:7], rows[7:], keys


@pytest.mark.parametrize("protocol", ["holidays", "landmarks", "ilias", "own"])
def test_every_protocol_counts_its_figures(protocol: str) -> None:
    check(*example(protocol))


def figures(*arguments: Any, **options: Any) -> list[float]:
    return [v for scores in score_judged(*arguments, **options) for v in scores.figures.values()]


def test_neither_precision_nor_tiles_nor_order_nor_parts_change_a_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, queries, database, keys = example()
    expected = figures(queries, database, keys, truth, distractors=[database[::-1][:90]])
    more = [database[::-1][:7], database[::-1][7:90]]
    same = [figures(queries.astype("f8"), database.astype("f8"), keys, truth, distractors=more)]
    order = np.random.default_rng(0).permutation(300)
    moved = [keys[row] for row in order]
    same += [figures(queries, torch.from_numpy(database[order]), moved, truth, distractors=more)]
    monkeypatch.setattr("apdist.retrieval.ranks.IMAGES_PER_TILE", 17)
    monkeypatch.setattr("apdist.retrieval.ranks._QUERIES_PER_TILE", 3)
    same += [figures(queries, database, keys, truth, distractors=more)]
    monkeypatch.setattr("apdist.retrieval.ranks.has_numba", lambda: False)
    same += [figures(queries, database, keys, truth, distractors=more)]
    for found in same:
        assert found == pytest.approx(expected, abs=1e-6)


def test_distractors_push_positives_back() -> None:
    truth, queries, database, keys = example()
    without = figures(queries, database, keys, truth)
    nearest = figures(queries, database, keys, truth, distractors=[queries])
    assert nearest[0] < without[0]


def test_the_query_itself_is_no_answer_but_in_the_classic_protocol() -> None:
    database = np.eye(3, dtype="f4")
    queries = np.array([[1.0, 0.5, 0.2]], "f4")
    own = JudgedQuery(key="a", positives=("b",))
    [scores] = score_judged(
        queries, database, ["a", "b", "c"], GroundTruth(protocol="holidays", queries=(own,))
    )
    assert scores.figures["map"] == 1.0
    listed = JudgedQuery(key="a", box=BOX, positives=("a", "c"))
    [scores] = score_judged(
        queries, database, ["a", "b", "c"], GroundTruth(protocol="classic", queries=(listed,))
    )
    assert scores.figures["map"] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": np.ones((6, 16))}, "queries: expected 7 descriptors, one a key, got 6"),
        ({"keys": [f"i{row}" for row in range(301)]}, "database: expected 301 descriptors"),
        ({"queries": np.ones((7, 15))}, "queries have 15 dimensions, the database 16"),
        ({"distractors": [np.ones((2, 9))]}, "distractors have 9 dimensions"),
        ({"distractors": [np.full((2, 16), np.nan)]}, "distractors: 2 of 2 descriptors hold NaN"),
        ({"keys": [f"x{row}" for row in range(300)]}, "of them not in the database: 'i"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    truth, queries, database, keys = example()
    arguments = {"queries": queries, "database": database, "keys": keys, "ground_truth": truth}
    with pytest.raises(ValueError, match=message):
        score_judged(**(arguments | change))
