"""The queries of a ground truth as images of a catalogue."""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import pytest

from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.data.images import Box
from apdist.retrieval.protocols.queries import (
    by_keys,
    first_misfit,
    part_inside,
    query_rows,
    views_of_queries,
)
from tests.pipelines.measure.scenes import write_scenes

Scenes: TypeAlias = tuple[Catalogue, GroundTruth]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def test_each_query_is_a_row_and_a_box_and_judged_images_must_be_there(scenes: Scenes) -> None:
    catalogue, truth = scenes
    names = catalogue.column("key").to_pylist()
    database = [name for name in names if not name.startswith("q")]
    found, views = views_of_queries(truth, catalogue, database, ("query", "database"))
    assert found == truth
    assert views == [(names.index(query.key), query.box) for query in truth.queries]
    with pytest.raises(ValueError, match="not in the database: 'easy00'"):
        views_of_queries(truth, catalogue, [n for n in database if n != "easy00"], ("query",))


def test_a_part_in_which_nobody_has_a_positive_is_refused_before_images_are_read(
    scenes: Scenes,
) -> None:
    catalogue, truth = scenes
    names = catalogue.column("key").to_pylist()
    easy = tuple(dataclasses.replace(query, hard=()) for query in truth.queries)
    with pytest.raises(ValueError, match="no query of the ground truth has a hard positive"):
        views_of_queries(
            dataclasses.replace(truth, queries=easy), catalogue, names, ("query", "database")
        )


def renamed(catalogue: Catalogue, column: str, change: dict[str, str]) -> Catalogue:
    table = catalogue.table
    names = [change.get(name, name) for name in table[column].to_pylist()]
    return Catalogue("", table.set_column(table.schema.get_field_index(column), column, [names]))


def asking(key: str, positive: str = "easy01") -> GroundTruth:
    queries = (JudgedQuery(key=key, positives=(positive,)),)
    return GroundTruth(protocol="holidays", queries=queries)


def test_queries_are_looked_for_in_their_split_first(scenes: Scenes) -> None:
    names = scenes[0].column("key").to_pylist()
    twice = renamed(scenes[0], "key", {"easy00": "q1"})
    assert query_rows(asking("q1"), twice, ("query", "database")) == [names.index("q1")]
    assert query_rows(asking("q1"), twice, ("database",)) == [names.index("easy00")]
    in_one_split = renamed(scenes[0], "key", {"q2": "q1"})
    with pytest.raises(ValueError, match="several images have the key 'q1' of a query"):
        query_rows(asking("q1"), in_one_split, ("query",))


def test_images_may_be_named_as_the_person_knows_them(scenes: Scenes) -> None:
    sources = {"q0": "my/q 0.jpg", "easy01": "my/first.jpg"}
    images = renamed(scenes[0], "source", sources)
    assert by_keys(asking("my/q 0.jpg", "my/first.jpg"), images) == asking("q0")
    assert by_keys(asking("q0"), images) == asking("q0")
    unclear = renamed(images, "source", {"hard00": "my/first.jpg"})
    assert by_keys(asking("q0", "my/first.jpg"), unclear) == asking("q0", "my/first.jpg")


def test_a_query_that_is_in_no_split_is_refused(scenes: Scenes) -> None:
    with pytest.raises(ValueError, match="asks with 1 image, 1 of them not in the shards: 'q99'"):
        query_rows(asking("q99"), scenes[0], ("query",))


def test_what_of_a_box_lies_in_its_image_is_measured_in_pixels() -> None:
    assert part_inside((0.0, 0.0, 73.0, 64.0), 73, 64) == (73.0, 64.0)
    assert part_inside((-5.0, -2.5, 10.0, 70.0), 73, 64) == (10.0, 64.0)
    assert part_inside((80.0, 1.5, 90.0, 4.0), 73, 64) == (0.0, 2.5)
    assert part_inside((1.0, 65.0, 2.0, 66.0), 73, 64) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0.0, 0.0, 73.0, 64.0), ""),
        ((3.0, 5.0, 4.0, 6.0), ""),  # one pixel
        ((0.0, 0.0, 80.0, 64.0), ""),  # an eleventh lies outside
        ((0.0, 0.0, 82.0, 64.0), "reaches out of its image of 73 x 64 pixels"),
        ((3.0, 5.0, 3.5, 9.0), "holds no pixel of its image of 73 x 64"),
        ((3.0, 5.0, 9.0, 5.5), "holds no pixel of its image of 73 x 64"),
    ],
)
def test_boxes_fit_their_images(scenes: Scenes, box: Box, message: str) -> None:
    queries = (JudgedQuery(key="q0", positives=("easy01",)),)
    queries += (JudgedQuery(key="q1", box=box, positives=("easy01",)),)
    truth = GroundTruth(protocol="holidays", queries=queries)
    catalogue = scenes[0]
    misfit, remedy = first_misfit(truth, catalogue, query_rows(truth, catalogue, ("query",)))
    assert misfit == (f"the box {box} of query 'q1' {message}" if message else "")
    assert bool(remedy) == bool(message)
    if message:
        with pytest.raises(ValueError, match=message):
            views_of_queries(truth, catalogue, ["easy01"], ("query",))
