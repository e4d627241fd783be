"""Batches of a plan: the same for any threads, part or start, in memory that is bounded."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from apdist.config import AugmentConfig
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.loading.decoding import Task, decode_into
from apdist.data.loading.reader import ImageReader, read_images
from apdist.data.loading.stream import request_cuts
from apdist.data.preparing.shards import Encoded, write_shards
from tests.data.loading.streams import all_batches, stream_of
from tests.pictures import SIDE, encoded, items, picture, refuse


def test_batches_do_not_depend_on_threads_or_read_ahead(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    first = all_batches(stream_of(catalogue, loader_processes=0, loader_reads=1))
    second = all_batches(stream_of(catalogue, loader_processes=2, loader_threads=3))
    assert [b.step for b in first] == [0, 1, 2, 3, 4]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """JPEGs large enough to be decoded at a part of their size."""

    def photograph(content: tuple[int, int]) -> Encoded:
        image = picture(*content, side=3 * SIDE)
        return Encoded(encoded(image, "JPEG", quality=95), "jpg", *image.size)

    root = str(tmp_path_factory.mktemp("photographs"))
    return write_shards(items(), photograph, root, shard_bytes=50_000, on_refused=refuse).select(
        "train"
    )


def test_threads_and_processes_make_the_images_of_the_chosen_decoder(
    photographs: Catalogue,
) -> None:
    here, there, slow = (
        torch.cat([batch.images for batch in all_batches(stream_of(photographs, **options))]).int()
        for options in (
            {"decoder": "simplejpeg", "loader_processes": 0},
            {"decoder": "auto", "loader_processes": 1, "loader_threads": 2},
            {"decoder": "pillow"},
        )
    )
    assert torch.equal(here, there)
    assert 0.1 < (here - slow).abs().float().mean() < 1.5


@pytest.mark.parametrize("decoder", ["simplejpeg", "pillow"])
def test_what_takes_the_place_of_a_damaged_image_is_made_by_the_chosen_decoder(
    photographs: Catalogue, decoder: str
) -> None:
    row = int(stream_of(photographs).plan.rows(0)[0])
    crc = photographs.table["crc32"].to_numpy().copy()
    crc[row] ^= 1
    column = photographs.table.schema.get_field_index("crc32")
    table = photographs.table.set_column(column, "crc32", pa.array(crc, type=pa.uint32()))
    damaged = dataclasses.replace(photographs, columns=table)
    sound = all_batches(stream_of(photographs, decoder=decoder))
    found = all_batches(stream_of(damaged, decoder=decoder, on_corrupt="replace"))[0]
    others = np.flatnonzero(photographs.labels == photographs.labels[row])
    other = int(np.roll(others, -1 - int(np.searchsorted(others, row)))[0])
    # The same picture with the same crop comes up in its own turn, in the same epoch.
    for batch, step in zip(sound, range(len(sound)), strict=True):
        rows = stream_of(photographs).plan.rows(step).tolist()
        if stream_of(photographs).plan.epoch_of(step)[0] == 0 and other in rows:
            assert torch.equal(found.images[0], batch.images[rows.index(other)])
            return
    pytest.fail("the epoch has not come to that picture")


def test_two_workers_together_have_the_batch_of_one(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    whole = all_batches(stream_of(catalogue))
    left = all_batches(stream_of(catalogue, slice(0, 6)))
    right = all_batches(stream_of(catalogue, slice(6, 16)))
    for all_of_it, a, b in zip(whole, left, right, strict=True):
        assert torch.equal(all_of_it.images, torch.cat([a.images, b.images]))


def test_a_resumed_stream_goes_on_with_the_same_images(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    whole, rest = all_batches(stream_of(catalogue)), all_batches(stream_of(catalogue), start=3)
    assert torch.equal(whole[3].images, rest[0].images)
    assert torch.equal(whole[4].images, rest[1].images)


def test_each_image_is_changed_as_seed_epoch_and_key_say(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    stream, reader = stream_of(catalogue), ImageReader(catalogue)
    began = time.perf_counter()
    batches = all_batches(stream, stop=stream.plan.summary.steps_per_epoch + 2)
    passed = time.perf_counter() - began
    assert 0 <= sum(batch.figures.waited_s for batch in batches) <= passed
    for batch in batches:
        expected = np.empty(batch.images.shape, np.uint8)
        epoch = stream.plan.epoch_of(batch.step)[0]
        for place, row in enumerate(stream.plan.rows(batch.step)):
            request, out = reader.request(np.array([row])), expected[place : place + 1]
            task = Task(request, stream.plan.seed, epoch)
            decode_into(task, read_images(request), out, AugmentConfig(), stream.settings.decoder)
        np.testing.assert_array_equal(batch.images.numpy(), expected)


def test_augmentation_changes_from_epoch_to_epoch(shards: Path) -> None:
    request = ImageReader(read_catalogue(str(shards)).select("train")).request(np.array([3]))
    images = []
    for epoch in (0, 1, 1):
        out = np.empty((1, 3, SIDE, SIDE), np.uint8)
        decode_into(Task(request, 0, epoch), read_images(request), out, AugmentConfig())
        images.append(out)
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images[1], images[2])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 1, 1, 2, 2, 3, 3, 3, 4, 4], [5, 8]),  # after 4 and 8; never inside a class
        ([1, 1, 2, 2, 1, 1, 2, 2], [4]),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 2], [9]),
        ([1] * 9, []),
        ([1, 2], []),
        ([1], []),
        ([], []),
    ],
)
def test_pieces_end_between_classes(labels: list[int], expected: list[int]) -> None:
    assert request_cuts(np.array(labels, dtype=np.int64), 4).tolist() == expected


def test_read_ahead_is_bounded_by_bytes(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    a_batch = 16 * 3 * SIDE**2
    stream = stream_of(catalogue, read_ahead_mib=1)
    room = (1 << 20) * 3 // 4  # the rest is for encoded images
    assert stream.num_prefetched() == min(16, room // a_batch)
    stream.data = dataclasses.replace(stream.data, image_size=100)
    assert stream.num_prefetched() == room // (16 * 3 * 100**2)
    stream.data = dataclasses.replace(stream.data, image_size=SIDE)
    assert (
        max(batch.figures.num_ready for batch in stream.batches(0, 60)) <= stream.num_prefetched()
    )
    large = dataclasses.replace(stream.data, image_size=640)
    stream.data = large
    with pytest.raises(ValueError, match="holds no batch: the 16 images .*read-ahead-mib 25"):
        next(stream.batches(0, 1))
