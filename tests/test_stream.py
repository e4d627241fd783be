import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from apdist.config import AugmentConfig, DataConfig
from apdist.data.images import ImageError, evaluation_image
from apdist.data.index import Index, read_index
from apdist.data.plan import Plan
from apdist.data.storage import StorageError
from apdist.data.stream import Batch, ImageReader, TrainingStream, evaluation_batches, shard_names
from tests.pictures import SIDE, encoded, picture, write_small_set


def stream_of(index: Index, part: slice = slice(None), **options: object) -> TrainingStream:
    data = DataConfig(image_size=SIDE, group_size=4, **options)  # type: ignore[arg-type]
    plan = Plan(index.labels, batch_size=16, group_size=4, seed=0)
    return TrainingStream(index, plan, data, AugmentConfig(), lambda rows: rows[part])


def all_batches(stream: TrainingStream, start: int = 0, stop: int = 5) -> list[Batch]:
    return list(stream.batches(start, stop))


@pytest.fixture
def damaged(tmp_path: Path) -> tuple[Index, int]:
    """A data set of its own with flipped bytes in the image of one row."""
    write_small_set(tmp_path)
    index = read_index(str(tmp_path)).select("train")
    row = 5
    path = tmp_path / index.table["shard"][row].as_py()
    content = bytearray(path.read_bytes())
    content[index.table["offset"][row].as_py() + 60] ^= 0xFF
    path.write_bytes(bytes(content))
    return index, row


def test_batches_do_not_depend_on_threads_or_read_ahead(shards: Path) -> None:
    index = read_index(str(shards)).select("train")
    first = all_batches(stream_of(index, loader_threads=1, read_ahead_steps=1))
    second = all_batches(stream_of(index, loader_threads=4, read_ahead_steps=4))
    assert [b.step for b in first] == [0, 1, 2, 3, 4]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_two_workers_together_have_the_batch_of_one(shards: Path) -> None:
    index = read_index(str(shards)).select("train")
    whole = all_batches(stream_of(index))
    left = all_batches(stream_of(index, slice(0, 6)))
    right = all_batches(stream_of(index, slice(6, 16)))
    for all_of_it, a, b in zip(whole, left, right, strict=True):
        assert torch.equal(all_of_it.images, torch.cat([a.images, b.images]))


def test_a_resumed_stream_goes_on_with_the_same_images(shards: Path) -> None:
    index = read_index(str(shards)).select("train")
    whole, rest = all_batches(stream_of(index)), all_batches(stream_of(index), start=3)
    assert torch.equal(whole[3].images, rest[0].images)
    assert torch.equal(whole[4].images, rest[1].images)


def test_augmentation_changes_from_epoch_to_epoch(shards: Path) -> None:
    index = read_index(str(shards)).select("train")
    stream = stream_of(index)
    row = np.array([3])
    assert not np.array_equal(stream._load(row, 0)[0], stream._load(row, 1)[0])
    assert np.array_equal(stream._load(row, 1)[0], stream._load(row, 1)[0])


def test_neighbours_come_with_one_read(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from apdist.data import storage

    reads = []
    original = storage.read_range

    def counting(*arguments: object) -> bytes:
        reads.append(arguments)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "read_range", counting)
    reader = ImageReader(read_index(str(shards)).select("train"))
    first = reader.shards.indices.to_numpy()
    rows = np.flatnonzero(first == first[0])[:4]
    wanted = rows[::-1].copy()
    found = reader.read(wanted)
    assert len(reads) == 1
    for row, data in zip(wanted, found, strict=True):
        reader.check(int(row), data)


def test_a_damaged_image_is_an_error_that_names_it(damaged: tuple[Index, int]) -> None:
    index, row = damaged
    key = index.table["key"][row].as_py()
    with pytest.raises(ImageError, match=rf"{key}.* at byte .*\.tar .*checksum.*on-corrupt"):
        all_batches(stream_of(index))


def test_a_damaged_image_can_be_replaced_by_one_of_its_class(damaged: tuple[Index, int]) -> None:
    index, row = damaged
    batches = all_batches(stream_of(index, on_corrupt="replace"))
    used = sum(int((stream_of(index).plan.rows(step) == row).sum()) for step in range(len(batches)))
    assert used > 0
    assert sum(batch.num_replaced for batch in batches) == used


def test_a_class_that_is_all_damaged_is_an_error(tmp_path: Path) -> None:
    write_small_set(tmp_path)
    index = read_index(str(tmp_path)).select("train")
    crc = index.table["crc32"].to_numpy().copy()
    crc[index.labels == index.labels[0]] = 0
    column = index.table.schema.get_field_index("crc32")
    table = index.table.set_column(column, "crc32", pa.array(crc, type=pa.uint32()))
    bad = dataclasses.replace(index, columns=table)
    with pytest.raises(ImageError, match="and so is all of its class"):
        all_batches(stream_of(bad, on_corrupt="replace"))


def test_evaluation_sees_every_image_of_the_split_once(shards: Path) -> None:
    index = read_index(str(shards)).select("test")
    rows: list[int] = []
    for batch, images in evaluation_batches(
        index, side=SIDE, batch_size=7, num_threads=2, shards=shard_names(index)
    ):
        assert images.shape == (len(batch), 3, SIDE, SIDE)
        rows += batch.tolist()
        source = index.table["source"][int(batch[0])].as_py()
        label, number = (int(s) for s in source.removesuffix(".png")[6:].split("/picture "))
        expected = evaluation_image(encoded(picture(label, number)), SIDE)
        assert np.array_equal(images[0].numpy(), expected)
    assert sorted(rows) == list(range(len(index)))


def test_a_shard_cut_between_two_images_is_noticed(tmp_path: Path) -> None:
    write_small_set(tmp_path, shard_bytes=10_000_000)
    index = read_index(str(tmp_path)).select("test")
    cut = index.table["offset"][20].as_py() - 512  # the header of the image
    path = tmp_path / "test-000000.tar"
    path.write_bytes(path.read_bytes()[:cut] + bytes(1024))
    with pytest.raises(ImageError, match="lacks 4 images of the index"):
        list(
            evaluation_batches(
                index, side=SIDE, batch_size=8, num_threads=1, shards=shard_names(index)
            )
        )


def test_a_truncated_shard_is_an_error_in_training(tmp_path: Path) -> None:
    write_small_set(tmp_path, shard_bytes=10_000_000)
    index = read_index(str(tmp_path)).select("train")
    path = tmp_path / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(StorageError, match="bytes early"):
        all_batches(stream_of(index))
