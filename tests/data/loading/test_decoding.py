"""Images that cannot be decoded: named, or replaced by others of their class."""

import dataclasses
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from apdist.config import AugmentConfig
from apdist.data.augmentation import image_seed, training_image
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.images import ImageError
from apdist.data.loading.decoding import Task, decode_into
from apdist.data.loading.reader import ReadRequest
from tests.data.loading.streams import all_batches, stream_of
from tests.pictures import SIDE, encoded, picture, write_small_set


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Catalogue, int]:
    """A data set of its own with flipped bytes in the image of one row."""
    write_small_set(tmp_path)
    catalogue = read_catalogue(str(tmp_path)).select("train")
    row = 5
    path = tmp_path / catalogue.table["shard"][row].as_py()
    content = bytearray(path.read_bytes())
    content[catalogue.table["offset"][row].as_py() + 60] ^= 0xFF
    path.write_bytes(bytes(content))
    return catalogue, row


def test_a_damaged_image_is_an_error_that_names_it(damaged: tuple[Catalogue, int]) -> None:
    catalogue, row = damaged
    key = catalogue.table["key"][row].as_py()
    with pytest.raises(ImageError, match=rf"{key}.* at byte .*\.tar .*checksum.*on-corrupt"):
        all_batches(stream_of(catalogue))


def test_a_damaged_image_can_be_replaced_by_one_of_its_class(
    damaged: tuple[Catalogue, int],
) -> None:
    catalogue, row = damaged
    batches = all_batches(stream_of(catalogue, on_corrupt="replace"))
    used = sum(
        int((stream_of(catalogue).plan.rows(step) == row).sum()) for step in range(len(batches))
    )
    assert used > 0
    assert sum(batch.figures.num_replaced for batch in batches) == used


def test_a_class_that_is_all_damaged_is_an_error(tmp_path: Path) -> None:
    write_small_set(tmp_path)
    catalogue = read_catalogue(str(tmp_path)).select("train")
    crc = catalogue.table["crc32"].to_numpy().copy()
    crc[catalogue.labels == catalogue.labels[0]] = 0
    column = catalogue.table.schema.get_field_index("crc32")
    table = catalogue.table.set_column(column, "crc32", pa.array(crc, type=pa.uint32()))
    bad = dataclasses.replace(catalogue, columns=table)
    with pytest.raises(ImageError, match="and so is all of its class"):
        all_batches(stream_of(bad, on_corrupt="replace"))


def test_a_truncated_shard_is_an_error_in_training(tmp_path: Path) -> None:
    write_small_set(tmp_path, shard_bytes=10_000_000)
    catalogue = read_catalogue(str(tmp_path)).select("train")
    path = tmp_path / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:-20_000])
    message = r"image '\S+' at byte \d+ of \S+train-000000.tar is cut off; .*on-corrupt replace"
    with pytest.raises(ImageError, match=message):
        all_batches(stream_of(catalogue))
    ends = catalogue.table["offset"].to_numpy() + catalogue.table["size"].to_numpy()
    cut = set(np.flatnonzero(ends > path.stat().st_size).tolist())
    batches = all_batches(stream_of(catalogue, on_corrupt="replace"))
    used = [row for batch in batches for row in stream_of(catalogue).plan.rows(batch.step).tolist()]
    assert sum(batch.figures.num_replaced for batch in batches) == sum(r in cut for r in used) > 0


def test_an_error_in_a_loader_process_is_raised_here(damaged: tuple[Catalogue, int]) -> None:
    catalogue, _ = damaged
    with pytest.raises(ImageError, match="checksum"):
        all_batches(stream_of(catalogue, loader_processes=1))


def test_images_are_augmented_by_seed_epoch_and_key_and_what_was_done_is_told() -> None:
    pictures = [encoded(picture(0, number)) for number in range(3)]
    places = np.array([(0, 0, len(data), zlib.crc32(data)) for data in pictures])
    places[1, 3] ^= 1
    keys, augment = ("a", "b", "c"), AugmentConfig()
    task = Task(ReadRequest((("x.tar", ""),), places, keys), seed=5, epoch=2)
    out = np.full((3, 3, SIDE, SIDE), 7, np.uint8)
    started = time.perf_counter()
    result = decode_into(task, pictures, out, augment)
    passed = time.perf_counter() - started
    for number in (0, 2):
        seed = image_seed(5, 2, keys[number])
        expected = training_image(pictures[number], SIDE, augment, seed)
        assert np.array_equal(out[number], expected)
    assert (out[1] == 7).all()
    assert result.corrupt == {1: "differs from its checksum; the shard was damaged or replaced"}
    assert (result.num_images, result.num_bytes) == (3, sum(map(len, pictures)))
    assert 0 < result.decode_s <= passed
    assert (result.read_s, result.num_retries, result.num_hits, result.num_misses) == (0, 0, 0, 0)
