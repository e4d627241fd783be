"""Passes over whole shards."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.images import Fit, ImageError, evaluation_image
from apdist.data.loading.reader import ReadRequest
from apdist.data.loading.sequential import ByShape, _image_member, evaluation_batches, shard_names
from tests.pictures import SIDE, encoded, picture, write_small_set


def test_evaluation_sees_every_image_of_the_split_once(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("test")
    rows: list[int] = []
    for batch, images in evaluation_batches(
        catalogue, fit=Fit(side=SIDE), batch_size=7, num_threads=2, shards=shard_names(catalogue)
    ):
        assert images.shape == (len(batch), 3, SIDE, SIDE)
        rows += batch.tolist()
        source = catalogue.table["source"][int(batch[0])].as_py()
        label, number = (int(s) for s in source.removesuffix(".png")[6:].split("/picture "))
        expected = evaluation_image(encoded(picture(label, number)), Fit(side=SIDE))
        assert np.array_equal(images[0].numpy(), expected)
    assert sorted(rows) == list(range(len(catalogue)))


def test_images_of_many_shapes_wait_in_bounded_number_and_all_come_once() -> None:
    waiting, random = ByShape(batch_size=4), np.random.default_rng(0)
    shapes = random.integers(1, 9, 200).tolist()
    seen: list[int] = []
    for row, width in enumerate(shapes):
        for rows, images in waiting.add(row, np.zeros((3, 8, width), np.uint8)):
            assert {shapes[r] for r in rows.tolist()} == {images.shape[-1]}
            assert 0 < len(rows) <= 4
            seen += rows.tolist()
        assert row + 1 - len(seen) < 4 * 4
    seen += [row for rows, _ in waiting.rest() for row in rows.tolist()]
    assert sorted(seen) == list(range(200))


def test_the_shape_of_most_images_goes_first_when_many_wait() -> None:
    waiting = ByShape(batch_size=4)
    found = []
    for row, width in enumerate([1, 2, 2, 2, *range(3, 15)]):
        found += waiting.add(row, np.zeros((3, 8, width), np.uint8))
        assert bool(found) == (row == 4 * 4 - 1)
    assert [rows.tolist() for rows, _ in found] == [[1, 2, 3]]


def test_batches_are_full_and_come_before_all_images_are_read(tmp_path: Path) -> None:
    catalogue = write_small_set(tmp_path, num_classes=4, num_test=0, shard_bytes=9000)
    assert len(catalogue.shards) > 1
    asked: list[int] = []

    class Asked(dict[int, list[tuple[int, None]]]):
        def get(self, row: int, *_: object) -> list[tuple[int, None]]:  # type: ignore[override]
            asked.append(row)
            return [(row, None)]

    batches = evaluation_batches(
        catalogue,
        fit=Fit(side=SIDE),
        batch_size=4,
        num_threads=1,
        shards=shard_names(catalogue)[::-1],
        views=Asked(),
    )
    found = [next(batches)[0].tolist()]
    assert len(asked) < 2 * 4
    found += [rows.tolist() for rows, _ in batches]
    assert found == np.arange(24).reshape(6, 4).tolist()
    assert asked == list(range(24))


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    catalogue = write_small_set(tmp_path, num_classes=1, num_test=0)
    (name,) = catalogue.shards
    path, row = tmp_path / name, catalogue.table.to_pylist()[3]
    content = bytearray(path.read_bytes())
    content[row["offset"] + row["size"] - 1] ^= 1  # behind the pixels: it can be decoded
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match=rf"image '{row['key']}' .* differs from its checksum"):
        list(
            evaluation_batches(
                catalogue, fit=Fit(side=SIDE), batch_size=4, num_threads=1, shards=[name]
            )
        )


def test_of_a_sample_with_several_members_the_catalogued_one_is_taken() -> None:
    request = ReadRequest((("x.tar", ""),), np.array([[0, 512, 5, zlib.crc32(b"image")]]), ("a",))
    sample = {"__key__": "a", "seg.png": b"other", "jpg": b"image", "json": b"{}"}
    assert _image_member(sample, request) == b"image"
    assert _image_member({"__key__": "a", "jpg": b"imagE"}, request) == b"imagE"


def test_a_shard_cut_between_two_images_is_noticed(tmp_path: Path) -> None:
    write_small_set(tmp_path, shard_bytes=10_000_000)
    catalogue = read_catalogue(str(tmp_path)).select("test")
    cut = catalogue.table["offset"][20].as_py() - 512  # the header of the image
    path = tmp_path / "test-000000.tar"
    path.write_bytes(path.read_bytes()[:cut] + bytes(1024))
    with pytest.raises(ImageError, match="lacks 4 images of the catalogue"):
        list(
            evaluation_batches(
                catalogue,
                fit=Fit(side=SIDE),
                batch_size=8,
                num_threads=1,
                shards=shard_names(catalogue),
            )
        )


def test_a_shard_cut_in_an_image_lacks_it_and_those_behind(tmp_path: Path) -> None:
    catalogue = write_small_set(tmp_path, num_classes=4, num_test=0, shard_bytes=1 << 20)
    (name,) = catalogue.shards
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: catalogue.table["offset"][20].as_py() + 9])

    def rows(images: Catalogue) -> list[int]:
        batches = evaluation_batches(
            images, fit=Fit(side=SIDE), batch_size=8, num_threads=1, shards=[name]
        )
        return sorted(row for batch, _ in batches for row in batch.tolist())

    assert rows(catalogue.subset(np.arange(20))) == list(range(20))
    with pytest.raises(ImageError, match="lacks 4 images of the catalogue"):
        rows(catalogue)
