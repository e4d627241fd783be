"""Images of a split as a page shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.retrieval.metrics import score_labelled
from apdist_verbs.described import Described
from apdist_verbs.pages.shown import Showing
from tests.pictures import write_small_set


@pytest.fixture(scope="module")
def found(shards: Path) -> Described:
    """Four classes with six images each, the images of a class alike, two classes close."""
    catalogue = read_catalogue(str(shards)).select("test")
    labels = torch.tensor(catalogue.labels)
    points = torch.eye(4)[labels] + 0.01 * torch.randn(
        24, 4, generator=torch.Generator().manual_seed(1)
    )
    points[labels.tolist().index(0)] = torch.eye(4)[3]  # one of class 0 that looks like class 3
    return Described(catalogue, torch.nn.functional.normalize(points, dim=1))


@pytest.fixture(scope="module")
def showing(found: Described) -> Showing:
    scores = score_labelled(found.descriptors, torch.tensor(found.catalogue.labels))
    return Showing(found, scores, scores)


def test_pictures_have_the_names_of_the_catalogue_and_are_read_by_row(showing: Showing) -> None:
    pictures = showing.pictures([13, 2, 13], 16)
    assert list(pictures) == [2, 13]
    table = showing.catalogue.table
    for row, picture in pictures.items():
        assert picture.name == table["source"][row].as_py()
        assert picture.key == table["key"][row].as_py()
        assert picture.label == table["label_name"][row].as_py() == f"class {picture.label_id}"
        assert max(picture.image.size) == 16


def test_ranked_lists_are_those_of_the_scores_and_leave_out_the_query(showing: Showing) -> None:
    row = showing.labels.tolist().index(0)
    (query,) = showing.ranked([("Worst queries", row)], 6)
    assert query.average_precision == float(showing.precision[row])
    assert query.before == query.average_precision
    assert len(query.results) == 6
    assert query.key not in {result.key for result in query.results}
    assert [result.is_hit for result in query.results] == [False] * 6
    scores = [result.score for result in query.results]
    assert scores == sorted(scores, reverse=True)
    (all_of_it,) = showing.ranked([("", 23)], 50)
    assert len(all_of_it.results) == 23


def test_an_image_that_looks_like_another_class_is_a_confusion(showing: Showing) -> None:
    pairs = {(pair.name, pair.other_name): pair for pair in showing.confusions()}
    pair = pairs["class 0", "class 3"]
    assert (pair.count, pair.num_queries) == (1, 6)
    assert (pair.query.label, pair.result.label) == ("class 0", "class 3")
    assert set(pairs) <= {("class 0", "class 3"), ("class 3", "class 0")}
    table = showing.classes(also=())
    assert table.num_classes == 4
    assert {row.name for row in table.rows[:2]} == {"class 0", "class 3"}
    assert next(row for row in table.rows if row.label == 0).confused_with == 3


def test_the_map_has_the_images_asked_for_or_none(showing: Showing) -> None:
    queries = showing.ranked([("", 20)], 1)
    drawn = showing.map(queries, 12)
    assert drawn is not None
    assert len(drawn.images) == 12
    assert queries[0].label in {island.label for island in drawn.islands}
    assert drawn.num_images == 24
    assert showing.map(queries, 0) is None


def test_a_damaged_image_is_named_in_a_line(tmp_path: Path, found: Described) -> None:
    catalogue = write_small_set(tmp_path).select("test")
    shard = Path(catalogue.shard_uri(3))
    content = bytearray(shard.read_bytes())
    content[catalogue.table["offset"][3].as_py() + 40] ^= 255
    shard.write_bytes(content)
    scores = score_labelled(found.descriptors, torch.tensor(catalogue.labels))
    damaged = Showing(Described(catalogue, found.descriptors), scores, None)
    key = catalogue.table["key"][3].as_py()
    with pytest.raises(ValueError, match=f"image '{key}' at byte .* differs from its checksum"):
        damaged.pictures([3])
