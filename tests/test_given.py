"""Folders, keys and objects in the kinds that people have them in, through what takes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import apdist
from apdist.arrays import descriptor_parts_of
from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.given import keys_of
from apdist.loss import average_precision_from_scores
from apdist.retrieval import (
    SeveralIndexes,
    add_to_index,
    build_index,
    expand_queries,
    load_index,
    open_index,
    remove_from_index,
    save_index,
    score_judged,
    score_labelled,
    score_rankings,
    write_index,
)
from apdist.training import StepOptions, own_rows
from tests.reference import unit_rows

UNIT = unit_rows(12, 4, seed=0, dtype=torch.float32)
KEYS = [f"image {row}" for row in range(12)]
ENTRIES = pa.table({"key": KEYS})
QUERY = JudgedQuery(key=KEYS[0], positives=tuple(KEYS[1:3]), junk=(KEYS[3],))
TRUTH = GroundTruth(protocol="own", queries=(QUERY,))
COLUMNS: list[Callable[[list[str]], Any]] = [
    *(list, tuple, np.array, pd.Series, pa.array),
    lambda keys: pa.chunked_array([keys[:1], keys[1:]]),
    lambda keys: iter(keys),
]


def figures(
    truth: GroundTruth = TRUTH, keys: Any = KEYS, distractors: Any = ()
) -> dict[str, float]:
    [scores] = score_judged(UNIT[:1], UNIT, keys, truth, distractors=distractors)
    return dict(scores.figures)


@pytest.mark.parametrize("column", COLUMNS)
def test_keys_may_be_a_column_of_any_library(column: Callable[[list[str]], Any]) -> None:
    assert figures(keys=column(KEYS)) == figures()
    query = JudgedQuery(key=KEYS[0], positives=column(KEYS[1:3]), junk=column(KEYS[3:4]))
    assert query == QUERY
    ranking = (UNIT[:1] @ UNIT.T).argsort(descending=True)
    [scores] = score_rankings(ranking, column(KEYS), TRUTH, queries_are_cropped=False)
    assert scores.figures["map"] == figures()["map"]
    assert all(type(key) is str for key in keys_of("keys", column(KEYS)))


def test_a_folder_may_be_a_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no trained model"):
        apdist.load_model(tmp_path)
    with pytest.raises(ValueError, match=r"index.parquet does not exist"):
        apdist.read_catalogue(tmp_path)
    save_index(build_index(UNIT, ENTRIES, model_id="m"), tmp_path / "saved")
    assert len(load_index(tmp_path / "saved", model_id="m")) == 12


def test_one_where_several_are_expected_is_taken_where_it_is_clear(tmp_path: Path) -> None:
    assert GroundTruth(protocol="own", queries=QUERY) == TRUTH  # type: ignore[arg-type]
    assert figures(distractors=UNIT) == figures(distractors=[UNIT]) != figures()
    same = [
        expand_queries(UNIT[:2], UNIT[2:4], k=3, alpha=1, more=more)
        for more in (UNIT[4:], [UNIT[4:]], UNIT[4:].view(2, 4, 4))
    ]
    torch.testing.assert_close(same[0], same[1])
    torch.testing.assert_close(same[0], same[2])
    write_index((UNIT[:6], ENTRIES[:6]), tmp_path, model_id="m")  # type: ignore[arg-type]
    added = add_to_index(tmp_path, (UNIT[6:], ENTRIES[6:]), model_id="m")  # type: ignore[arg-type]
    assert added.num_added == 6
    assert remove_from_index(tmp_path, KEYS[1]).num_removed == 1
    assert remove_from_index(tmp_path, where=[f"key={KEYS[2]}"]).num_removed == 1


def test_numbers_of_numpy_are_numbers() -> None:
    four = np.int64(4)
    assert own_rows(np.int64(16), four, np.int64(1), np.int64(2)) == slice(8, 16)
    options = StepOptions(loss=lambda d, _: d.sum(), chunk_size=four, worker_sizes=(four,))
    assert type(options.chunk_size) is int
    assert options.worker_sizes == (4,)


INDEX = build_index(UNIT, ENTRIES, model_id="m")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: apdist.load_model(5), "folder must be a path or an address, got 5"),
        (lambda: apdist.read_catalogue(None), "root must be a path or an address, got None"),
        (lambda: open_index(5), "place must be a path or an address, got 5"),
        (lambda: open_index(["a", 5]), "place must be a path or an address, got 5"),
        (lambda: open_index("a", run=[]), "run must be a path or an address, got one of type list"),
        (lambda: load_index(b"x", model_id=None), "folder must be a path or an address, got b'x'"),
        (lambda: save_index(INDEX, None), "folder must be a path or an address, got None"),
        (lambda: save_index(UNIT, "none"), "index must be a SearchIndex, got one of type Tensor"),
        (lambda: write_index([], 5, model_id="m"), "folder must be a path or an address, got 5"),
        (lambda: build_index(UNIT, {"key": KEYS}, model_id="m"), r"use pa.table\(...\) of pyarrow"),
        (lambda: build_index(UNIT, ENTRIES, model_id=5), "model_id must be a str, got 5; it names"),
        (lambda: INDEX.search(UNIT[:1], 3, where=5), "5 is no condition; expected COLUMN=VALUE"),
        (lambda: remove_from_index("none", [5]), "keys: a key must be a str, got 5; keys are text"),
        (lambda: SeveralIndexes([INDEX]), "indexes must be a dict, got one of type list; give"),
        (lambda: SeveralIndexes({"a": 1}), "an index must be a SearchIndex, got 1; give them by"),
        (lambda: apdist.build_model("resnet18"), "config must be a ModelConfig, got 'resnet18'"),
        (lambda: JudgedQuery(key="a", positives="bc"), "query 'a': positives must be several keys"),
        (lambda: JudgedQuery(key="a", junk=5), "query 'a': junk must be several keys, as "),
        (lambda: JudgedQuery(key="a", box="1234"), "box must be left < right, top < bottom; got"),
        (lambda: JudgedQuery(key="a", box=(1, 2, 3)), r"top < bottom; got \(1, 2, 3\)"),
        (lambda: GroundTruth(protocol="own", queries=[5]), "a query must be a JudgedQuery, got 5"),
        (lambda: figures("gnd.parquet"), "ground_truth must be a GroundTruth, got 'gnd.parquet'"),
        (lambda: figures(keys="abc"), r'keys must be several keys, as \["a", "b"\], got .abc'),
        (lambda: figures(distractors=None), "distractors must be descriptors part by part"),
        (
            lambda: list(descriptor_parts_of("more", "text")),
            "more must be descriptors part by part, got",
        ),
        (lambda: score_labelled(UNIT, None), "labels: expected an array of numbers"),
        (
            lambda: average_precision_from_scores(UNIT.numpy(), UNIT > 0),
            r"scores must be a Tensor, got one of type ndarray; use torch.as_tensor\(scores\)",
        ),
        (
            lambda: average_precision_from_scores(UNIT, None),
            r"positive must be a Tensor, got None; use torch.as_tensor\(positive\)",
        ),
        (
            lambda: average_precision_from_scores(UNIT, UNIT > 0, ignore=[1]),
            "ignore must be a Tensor, got one of type list",
        ),
    ],
)
def test_what_could_be_meant_otherwise_is_refused_in_a_line(
    call: Callable[[], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert len(str(error.value)) < 200
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("parts", [5, [(UNIT, ENTRIES, 5)], [UNIT], [(UNIT, {"key": KEYS})]])
def test_parts_that_are_no_pairs_leave_an_index_as_it_was(parts: Any, tmp_path: Path) -> None:
    save_index(INDEX, tmp_path / "index")
    with pytest.raises(ValueError, match=r"part|entries must be a Table"):
        add_to_index(tmp_path / "index", parts, model_id="m")
    with pytest.raises(ValueError, match=r"part|entries must be a Table"):
        write_index(parts, tmp_path / "new", model_id="m")
    assert len(load_index(tmp_path / "index", model_id="m")) == 12
    assert not (tmp_path / "new").exists()
