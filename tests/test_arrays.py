"""Odd arguments: each function of retrieval takes them, or refuses them in our own short words."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from apdist.arrays import count_of, counts_of, descriptors_of, labels_of, number_of, rows_of
from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.model.whitening import learn_pca_whitening, learn_supervised_whitening
from apdist.retrieval import (
    augment_database,
    expand_queries,
    pool_scales,
    score_labelled,
    score_queries,
)
from apdist.retrieval.protocols.rankings import score_rankings
from apdist.retrieval.protocols.rules import trapezoid_average_precision
from tests.reference import unit_rows

UNIT = unit_rows(12, 4, seed=0, dtype=torch.float32)
LABELS = torch.arange(12) // 3
KEYS = tuple(map(str, range(6)))
TRUTH = GroundTruth(
    protocol="revisited",
    queries=tuple(
        JudgedQuery(
            key=f"q{q}", box=(0, 0, 1, 1), easy=(KEYS[q],), hard=(KEYS[q + 2],), junk=("5",)
        )
        for q in range(2)
    ),
)
RANKINGS = np.array([[0, 5, 2, 1, 3, 4], [4, 3, 1, 0, 5, 2]])


def scored(descriptors: Any = UNIT, labels: Any = LABELS, **options: Any) -> float:
    return score_labelled(descriptors, labels, **options).mean_average_precision


def compared(queries: Any = UNIT, labels: Any = LABELS, **options: Any) -> float:
    return score_queries(queries, labels, UNIT, LABELS, **options).mean_average_precision


def revisited(rankings: Any = RANKINGS, **options: Any) -> float:
    _, medium, _ = score_rankings(rankings, KEYS, TRUTH, queries_are_cropped=True, **options)
    return medium.figures["map_trapezoid"]


EQUAL: list[tuple[Callable[..., float], Any, dict[str, Any]]] = [
    (scored, UNIT.numpy(), {}),
    (scored, UNIT.tolist(), {}),
    (scored, UNIT.double(), {"labels": LABELS.numpy()}),
    (scored, UNIT.numpy()[:, ::-1], {}),  # negative strides
    (scored, UNIT.numpy().astype(">f4"), {}),
    (scored, UNIT.requires_grad_(False), {"labels": LABELS.tolist()}),
    *((scored, UNIT, {"labels": LABELS.to(kind)}) for kind in (torch.int8, torch.uint8)),
    *(
        (scored, UNIT, {"labels": LABELS.numpy().astype(kind)})
        for kind in ("u2", "u4", "u8", ">i4")
    ),
    (scored, UNIT, {"recall_at": [1, 5]}),
    (scored, UNIT, {"recall_at": np.array([1, 5]), "tile_size": np.int64(5)}),
    (scored, UNIT, {"map_at": (torch.tensor(5),), "recall_at": (1000,)}),
    (compared, UNIT.half().double(), {"labels": LABELS.numpy()}),
    (revisited, RANKINGS.tolist(), {}),
    (revisited, torch.from_numpy(RANKINGS), {}),
    (revisited, RANKINGS.astype("u4"), {"precision_at": [1, 10]}),
    (revisited, [[*map(int, row), -1, -1] for row in RANKINGS], {}),  # a list that came out short
]


@pytest.mark.parametrize("number", range(len(EQUAL)))
def test_what_says_clearly_what_is_meant_is_taken(number: int) -> None:
    function, argument, options = EQUAL[number]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(argument, **options) == pytest.approx(function(), abs=1e-3)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: scored(UNIT.bool()), "real numbers, got torch.bool"),
    (lambda: scored(UNIT + 0j), "real numbers, got torch.complex64"),
    (lambda: scored([["a"]]), "descriptors: expected an array of numbers"),
    (lambda: scored([[1.0], [1.0, 2.0]]), "descriptors: expected an array of numbers"),
    (lambda: scored(None), "descriptors: expected an array of numbers"),
    (lambda: scored(UNIT[:0]), "n >= 1, got .0, 4."),
    (lambda: scored(UNIT[:, :0]), "got .12, 0."),
    (lambda: scored(UNIT * 1e30), "12 of 12 descriptors are longer than 1e.18"),
    (lambda: scored(UNIT.index_fill(0, torch.tensor(3), torch.inf)), "hold NaN .* row: 3."),
    (lambda: scored(labels=LABELS.float()), "labels must be integers, got torch.float32"),
    (lambda: scored(labels=LABELS[:, None]), r"labels: expected \(12,\), one a descriptor"),
    (lambda: scored(labels=["a"] * 12), "labels: expected an array of numbers"),
    (lambda: scored(labels=np.array([2**63] * 12, "u8")), "does not fit 64 bits"),
    (lambda: scored(labels=torch.arange(12)), "none of the 12 queries has a positive"),
    (lambda: scored(recall_at=5), "recall_at must be several whole numbers"),
    (lambda: scored(recall_at="15"), "recall_at must be several whole numbers"),
    (lambda: scored(recall_at=(1.5,)), "recall_at must be a whole number, got 1.5"),
    (lambda: scored(map_at=(True,)), "map_at must be a whole number, got True"),
    (lambda: scored(map_at=(5, 5)), "map_at names a number twice"),
    (lambda: scored(tile_size=-1), "tile_size must be at least 0"),
    (lambda: compared(UNIT[:, :3]), "queries have 3 dimensions, the database 4"),
    (lambda: revisited(RANKINGS.T), "a ranking for each of 2 queries, got 6; .* rankings.T"),
    (lambda: revisited(RANKINGS.astype(float)), "ranking 0: rows must be integers"),
    (lambda: revisited(RANKINGS > 2), "ranking 0: rows must be integers, got torch.bool"),
    (lambda: revisited([[0, -1, 1], [0]]), "ranking 0: there are rows 0 to 5, got -1"),
    (lambda: revisited(7), "a ranking for each of 2 queries, got 7"),
    (lambda: revisited(precision_at=(0,)), "precision_at must be at least 1"),
    (lambda: trapezoid_average_precision([3, 1], 2), "ranks must rise"),
    (lambda: trapezoid_average_precision([1, 3], 1), "num_positives must be at least 2"),
    (lambda: trapezoid_average_precision([], 0), "num_positives must be at least 1"),
    (lambda: expand_queries(UNIT * 2, UNIT, k=2, alpha=1), "queries: .* not of unit length"),
    (lambda: expand_queries(UNIT * 0, UNIT, k=2, alpha=1), "queries: .* not of unit length"),
    (lambda: expand_queries(UNIT, UNIT, k=2.0, alpha=1), "k must be a whole number, got 2.0"),
    (lambda: expand_queries(UNIT, UNIT, k=13, alpha=1), "k must be from 0 to 12, got 13"),
    (lambda: expand_queries(UNIT, UNIT, k=2, alpha=np.nan), "alpha must be at least 0, got nan"),
    (lambda: expand_queries(UNIT, UNIT, k=2, alpha="1"), "alpha must be a number, got '1'"),
    (lambda: augment_database(UNIT, k=12, alpha=0), "k must be from 0 to 11, got 12"),
    (lambda: pool_scales(UNIT), r"\(s, n, d\), s >= 1, got \(12, 4\)"),
    (lambda: pool_scales(UNIT[None], p=0), "p must be from 0.01 to 100"),
    (lambda: pool_scales(UNIT[None] * 1e-30), "not of unit length"),
    (lambda: learn_pca_whitening(UNIT[:1]), "n >= 2, got .1, 4."),
    (lambda: learn_pca_whitening(UNIT, num_components=5), "num_components must be from 0 to 4"),
    (lambda: learn_pca_whitening(UNIT, power=None), "power must be a number, got None"),
    (lambda: learn_pca_whitening(UNIT)(UNIT[0]), "expected descriptors .n, d."),
    (lambda: learn_supervised_whitening(UNIT, [[0.0, 1.0]]), "pairs must be rows, whole numbers"),
    (lambda: learn_supervised_whitening(UNIT, [[0, 12]]), "pairs name rows 0 to 12"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_could_be_meant_otherwise_is_refused_in_a_line(number: int) -> None:
    call, message = REFUSED[number]
    with pytest.raises(ValueError, match=message) as refused:
        call()
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


def test_what_comes_back_is_as_it_was_given() -> None:
    assert descriptors_of("x", UNIT.half()).dtype == torch.float16
    assert descriptors_of("x", np.eye(2, dtype=np.uint8)).dtype == torch.float32
    assert labels_of("y", np.array([True, False]), 2).tolist() == [1, 0]
    assert rows_of("r", [], 3).tolist() == []
    assert rows_of("r", [2, 0, -1], 3).tolist() == [2, 0]
    assert count_of("k", np.uint8(3), 0) == count_of("k", torch.tensor(3), 0) == 3
    assert counts_of("k", np.array([3, 1])) == (3, 1)
    assert number_of("p", np.float32(0.5), 0) == number_of("p", torch.tensor(0.5), 0, 1) == 0.5
