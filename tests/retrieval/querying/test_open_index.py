"""Pictures given in any form find what their files find."""

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from apdist.data import storage
from apdist.retrieval.index import build_index
from apdist.retrieval.querying.open_index import OpenIndex
from apdist.retrieval.search_index import SearchIndex
from apdist.retrieval.several import SeveralIndexes
from tests.pictures import encoded, picture
from tests.places import ROOT
from tests.retrieval.indexes import clustered, entries
from tests.retrieval.querying.conftest import Indexed
from tests.s3_server import S3Server


def test_an_image_of_the_index_finds_itself_whatever_it_is_given_as(
    opened: OpenIndex, indexed: Indexed, tmp_path: Path
) -> None:
    data = indexed.encoded(7)
    (tmp_path / "ä picture.png").write_bytes(data)
    image = Image.open(io.BytesIO(data))
    given = [tmp_path / "ä picture.png", data, image, np.asarray(image.convert("RGB"))]
    alone = [opened.describe(one) for one in given]
    assert all(torch.equal(one, alone[0]) for one in alone)
    results = opened.search([str(given[0]), *given], k=3)
    key = indexed.catalogue.column("key")[7].as_py()
    assert len(results) == 5
    assert results.queries[:2] == (str(given[0]),) * 2
    assert results.queries[4] == "picture 4"
    for _, found in results.by_query():
        assert [one["rank"] for one in found] == [1, 2, 3]
        assert found[0]["key"] == key
        assert found[0]["score"] == pytest.approx(1, abs=1e-6)


@pytest.mark.s3
def test_an_object_on_s3_is_described_as_its_file(
    opened: OpenIndex, indexed: Indexed, s3: S3Server
) -> None:
    uri = f"s3://{s3.bucket}/described/ä 1.png"
    storage.write_bytes(uri, indexed.encoded(4))
    assert torch.equal(opened.describe(uri), opened.describe(indexed.encoded(4)))
    results = opened.search([uri, f"{uri}x"], k=1, skip_unreadable=True)
    assert results.queries == (uri,)
    assert "check the address" in results.unread[0][1] or "no such" in results.unread[0][1]


def test_the_manual_searches_as_it_says(
    indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "python.md").read_text()
    [code] = re.findall(r"```python search\n(.+?)```", text, re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "NAME").symlink_to(indexed.run)
    (tmp_path / "pictures").mkdir()
    for name in ("query.jpg", "pictures/a.png", "pictures/b.png"):
        (tmp_path / name).write_bytes(indexed.encoded(3))
    (tmp_path / "pictures" / "broken.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/python.md, search", "exec"), names)
    assert len(names["table"]) == 15
    assert (names["near"].num_answered, len(names["near"].unread)) == (2, 1)
    assert set(names["some"].to_pandas()["label_name"]) == {"class 1"}
    assert len(names["alike"]) == 2


def test_results_of_a_batch_are_those_of_one_by_one(opened: OpenIndex, indexed: Indexed) -> None:
    images = [indexed.encoded(row) for row in range(30)] * 3  # more than a batch
    together = opened.search(images, k=4)
    assert len(together) == 90
    for number in (0, 29, 63, 64, 89):
        [(_, alone)] = opened.search(images[number], k=4).by_query()
        rows = together.table.slice(4 * number, 4).to_pylist()
        assert [row["key"] for row in rows] == [row["key"] for row in alone]
        assert [row["score"] for row in rows] == pytest.approx(
            [r["score"] for r in alone], abs=1e-6
        )
        assert {row["number"] for row in rows} == {number}


def test_no_more_pictures_are_taken_than_are_worked_on(opened: OpenIndex) -> None:
    taken = 0

    def pictures() -> Iterator[Image.Image]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield picture(0, number)

    parts = opened.search_parts(pictures(), k=1)
    assert next(parts).queries[0] == "picture 0"
    assert taken <= 128
    parts.close()


def test_an_image_found_by_its_key_is_not_its_own_result(
    opened: OpenIndex, indexed: Indexed
) -> None:
    keys = indexed.catalogue.column("key").to_pylist()
    results = opened.search_keys([keys[3], keys[3], keys[0]], k=29)
    assert results.queries == (keys[3], keys[3], keys[0])
    for key, found in results.by_query():
        assert {one["key"] for one in found} == set(keys) - {key}
    assert repr(results) == "<SearchResults: 3 queries, k=29, 87 results>"
    with pytest.raises(ValueError, match="no image of the key 'nothing'.*its keys look like"):
        opened.search_keys("nothing")
    with pytest.raises(ValueError, match="keys: a key must be a str, got 5; keys are text"):
        opened.search_keys([keys[0], 5])  # type: ignore[list-item]
    assert opened.entries_of(pa.array(keys[:2]))["key"].to_pylist() == keys[:2]
    assert opened.entries_of(keys[1])["key"].to_pylist() == keys[1:2]
    with pytest.raises(
        ValueError, match=f"no image of the key '{keys[3]}x'; did you mean '{keys[3]}'"
    ):
        opened.search_keys([keys[0], keys[3] + "x"])


def test_images_of_several_indexes_are_found_by_their_keys_as_in_one() -> None:
    vectors, table = clustered(40, 8), entries(40)

    def part(start: int, stop: int) -> SearchIndex:
        rows = table.slice(start, stop - start)
        return build_index(vectors[start:stop], rows, kind="exact", model_id="m")

    parts = {"a": part(0, 15), "b": part(15, 16), "c": part(16, 40)}
    keys = [f"bild {row} ü" for row in (0, 14, 15, 16, 39)]
    found, expected = (
        OpenIndex(index, None).search_keys(keys, 3).to_pylist()  # type: ignore[arg-type]
        for index in (SeveralIndexes(parts), part(0, 40))
    )
    assert [(r["query"], r["key"]) for r in found] == [(r["query"], r["key"]) for r in expected]
    assert [r["score"] for r in found] == pytest.approx([r["score"] for r in expected])


def test_fewer_results_than_asked_and_near_duplicates_are_told(
    opened: OpenIndex, indexed: Indexed
) -> None:
    data = indexed.encoded(2)
    everything = opened.search([data], k=100)
    assert everything.num_short == 1
    assert "1 with fewer than k" in repr(everything)
    scores = [row["score"] for row in everything.to_pylist()]
    assert len(scores) == 30
    least = (scores[4] + scores[5]) / 2
    assert opened.search([data, picture(9, 9)], k=100, least_score=least).num_found[0] == 5
    assert opened.search(data, k=3, least_score=least).num_found == (3,)
    nothing = opened.search(picture(9, 9), least_score=1)
    assert (nothing.num_answered, len(nothing), nothing.table.num_rows) == (0, 1, 0)
    assert nothing.to_pandas().columns[:4].tolist() == ["number", "query", "rank", "score"]


def test_only_what_the_filter_lets_through_is_found(opened: OpenIndex, indexed: Indexed) -> None:
    where = ["label_name=class 1", "source!=class 1/picture 0.png"]
    assert (opened.count(where), opened.count("label=9"), opened.count()) == (5, 0, 30)
    results = opened.search([picture(1, 0), picture(0, 0)], k=9, where=where)
    assert results.num_found == (5, 5)
    assert {row["label_name"] for row in results.to_pylist()} == {"class 1"}
    key = indexed.catalogue.column("key")[0].as_py()
    assert opened.search_keys(key, where="label_name=class 4", k=9).num_found == (6,)
    assert opened.search(picture(0, 0), where="label=9").num_found == (0,)
    with pytest.raises(ValueError, match="no column 'labels'; did you mean 'label'"):
        opened.search(picture(0, 0), where="labels=9")


def test_unreadable_pictures_are_refused_or_passed_over(
    opened: OpenIndex, indexed: Indexed, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    images = ["missing.png", indexed.encoded(1), tmp_path / "text.png", tmp_path]
    with pytest.raises(ValueError, match="^missing.png does not exist; check the path$"):
        opened.search(images)
    results = opened.search(images, k=2, skip_unreadable=True)
    assert results.queries == ("picture 1",)
    assert results.table["number"].to_pylist() == [1, 1]
    assert results.unread == (
        ("missing.png", "does not exist; check the path"),
        (f"{tmp_path}/text.png", "is no image that Pillow can read"),
        (str(tmp_path), "is a folder, not a picture"),
    )
    assert len(opened.search(["a", "b"], skip_unreadable=True)) == 0


def test_a_folder_or_a_list_stands_for_its_pictures(opened: OpenIndex, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(0, number)))
    (tmp_path / "list.txt").write_text("2.png\n0.png\n")
    assert len(opened.search(tmp_path)) == 3
    assert opened.search(tmp_path / "list.txt").queries == tuple(
        f"{tmp_path}/{n}.png" for n in (2, 0)
    )


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (picture(0, 0), {"k": 0}, "k must be at least 1, got 0"),
        (picture(0, 0), {"k": 1.5}, "k must be a whole number"),
        (picture(0, 0), {"least_score": 90}, "least_score must be from -1 to 1, got 90"),
        ([], {}, "expected one picture or more to search for, got none"),
        (None, {}, "expected a path, an address, .* or several of them, got NoneType"),
        ([1], {}, "picture 0: expected a path, .* got int"),
        (torch.zeros(3, 4, 4), {}, "expected a path, .* got Tensor"),
        (np.zeros((3, 8, 9), np.uint8), {}, r"got \(3, 8, 9\) of uint8; turn it"),
        (np.zeros((8, 9, 3)), {}, r"got \(8, 9, 3\) of float64; of floats from 0 to 1"),
        (np.zeros((8, 9), np.uint8), {}, "give grey and transparent ones as PIL images"),
        (np.zeros((0, 9, 3), np.uint8), {}, r"got \(0, 9, 3\) of uint8$"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_line(
    opened: OpenIndex, images: object, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        opened.search(images, **options)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
