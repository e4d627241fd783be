"""Keys of a ground truth become rows of a database, or are named."""

from __future__ import annotations

import pytest

from apdist.data.ground_truth.ground_truth import PROTOCOLS, GroundTruth, JudgedQuery
from apdist.retrieval.protocols.judging import own_rows, rows_of_keys
from tests.retrieval.protocols.judgements import DATABASE, JUDGED, ground_truth


def test_each_list_holds_the_rows_of_its_keys() -> None:
    found = rows_of_keys(ground_truth(JUDGED), DATABASE)
    assert [(rows.easy, rows.hard, rows.junk) for rows in found] == [
        ((0, 1), (4,), (3,)),
        ((2,), (0, 5), ()),
    ]


def test_own_pictures_are_those_that_are_taken_out_of_the_ranks() -> None:
    box = (0.0, 0.0, 1.0, 1.0)
    inside = JudgedQuery(key="b", positives=("a",), box=box)
    known = JudgedQuery(key="c", positives=("a",), junk=("c",), box=box)
    outside = JudgedQuery(key="x", positives=("a",), box=box)
    queries = (inside, known, outside)
    for protocol in PROTOCOLS:
        if protocol != "revisited":
            truth = GroundTruth(protocol=protocol, queries=queries)  # type: ignore[arg-type]
            expected = [] if protocol == "classic" else [1, 2, -1]
            assert own_rows(truth, ["a", "b", "c"]) == expected
    assert own_rows(GroundTruth(protocol="own", queries=(outside,)), ["a", "b"]) == []
    graded = JudgedQuery(key="b", easy=("a",), hard=("c",), box=box)
    assert own_rows(GroundTruth(protocol="revisited", queries=(graded,)), ["a", "b", "c"]) == []


def test_images_that_are_missing_are_counted_and_the_first_named() -> None:
    names = [f"other {i}" for i in range(9)]
    told = r"judges 6 images, 6 of them not .*: 'bild ü 0', .*9 images, 'o"
    with pytest.raises(ValueError, match=told):
        rows_of_keys(ground_truth(JUDGED), names)


def test_a_judged_key_of_two_images_is_refused_and_one_that_is_not_judged_passes() -> None:
    rows_of_keys(ground_truth(JUDGED), [*DATABASE, "x", "x"])
    with pytest.raises(ValueError, match="several images with the key 'bild ü 2'"):
        rows_of_keys(ground_truth(JUDGED), [*DATABASE, "bild ü 2"])
