import dataclasses
import re
import signal
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch

from apdist.config import AugmentConfig, DataConfig
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.images import ImageError, evaluation_image
from apdist.data.loading import loader_process
from apdist.data.loading.decoding import Task, TaskResult, decode_into
from apdist.data.loading.loader_process import LoaderError
from apdist.data.loading.reader import ImageReader, ReadRequest, read_images
from apdist.data.loading.sequential import _image_member, evaluation_batches, shard_names
from apdist.data.loading.stream import Batch, TrainingStream, request_cuts
from apdist.data.loading.telemetry import StreamFigures, Waiting
from apdist.data.plan.plan import Plan
from apdist.data.storage import StorageError
from tests.pictures import SIDE, encoded, picture, write_small_set


def stream_of(catalogue: Catalogue, part: slice = slice(None), **options: object) -> TrainingStream:
    options = {"loader_processes": 0} | options
    data = DataConfig(image_size=SIDE, group_size=4, **options)  # type: ignore[arg-type]
    plan = Plan(catalogue.labels, batch_size=16, group_size=4, seed=0)
    return TrainingStream(catalogue, plan, data, AugmentConfig(), lambda rows: rows[part])


def loaders() -> list[psutil.Process]:
    """Loader processes of this one."""
    children = psutil.Process().children()
    return [child for child in children if "loader_process" in " ".join(child.cmdline())]


def all_batches(stream: TrainingStream, start: int = 0, stop: int = 5) -> list[Batch]:
    """Copies: the stream uses its memory again."""
    return [
        dataclasses.replace(batch, images=batch.images.clone())
        for batch in stream.batches(start, stop)
    ]


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


def test_batches_do_not_depend_on_threads_or_read_ahead(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    first = all_batches(stream_of(catalogue, loader_processes=0, loader_reads=1))
    second = all_batches(stream_of(catalogue, loader_processes=2, loader_threads=3))
    assert [b.step for b in first] == [0, 1, 2, 3, 4]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


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


def test_augmentation_changes_from_epoch_to_epoch(shards: Path) -> None:
    request = ImageReader(read_catalogue(str(shards)).select("train")).request(np.array([3]))
    images = []
    for epoch in (0, 1, 1):
        out = np.empty((1, 3, SIDE, SIDE), np.uint8)
        decode_into(Task(request, 0, epoch), read_images(request), out, AugmentConfig())
        images.append(out)
    assert not np.array_equal(images[0], images[1])
    assert np.array_equal(images[1], images[2])


def test_neighbours_come_with_one_read(shards: Path) -> None:
    reads = []

    def counting(uri: str, offset: int, size: int, etag: str) -> bytes:
        reads.append(uri)
        return storage.read_range(uri, offset, size, etag)

    reader = ImageReader(read_catalogue(str(shards)).select("train"))
    first = reader.columns[0]
    request = reader.request(np.flatnonzero(first == first[0])[:4][::-1].copy())
    found = read_images(request, counting)
    assert len(reads) == 1
    for number, data in enumerate(found):
        request.check(number, data)
    apart = reader.request(np.array([0, len(first) - 1]))
    assert len(apart.shards) == 2
    for number, data in enumerate(read_images(apart, counting)):
        apart.check(number, data)
    assert len(reads) == 3


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


def test_evaluation_sees_every_image_of_the_split_once(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("test")
    rows: list[int] = []
    for batch, images in evaluation_batches(
        catalogue, side=SIDE, batch_size=7, num_threads=2, shards=shard_names(catalogue)
    ):
        assert images.shape == (len(batch), 3, SIDE, SIDE)
        rows += batch.tolist()
        source = catalogue.table["source"][int(batch[0])].as_py()
        label, number = (int(s) for s in source.removesuffix(".png")[6:].split("/picture "))
        expected = evaluation_image(encoded(picture(label, number)), SIDE)
        assert np.array_equal(images[0].numpy(), expected)
    assert sorted(rows) == list(range(len(catalogue)))


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
                catalogue, side=SIDE, batch_size=8, num_threads=1, shards=shard_names(catalogue)
            )
        )


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


def test_a_loader_that_is_killed_is_an_error_and_no_hang(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    batches = stream_of(catalogue, loader_processes=2).batches(0, 10_000)
    next(batches)
    for process in loaders():
        process.kill()
    with pytest.raises(LoaderError, match="a loader process ended unexpectedly"):
        for _ in batches:
            pass
    assert not loaders()


def test_loaders_leave_ctrl_c_to_their_parent(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    batches = stream_of(catalogue, loader_processes=2).batches(0, 60)
    next(batches)
    for process in loaders():
        process.send_signal(signal.SIGINT)
    assert sum(1 for _ in batches) == 59


def test_a_stream_that_is_left_ends_its_loaders(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    batches = stream_of(catalogue, loader_processes=2).batches(0, 100)
    kept = next(batches).images
    batches.close()
    assert not loaders()
    assert kept.sum() > 0  # its memory is still there


def test_an_error_in_a_loader_process_is_raised_here(damaged: tuple[Catalogue, int]) -> None:
    catalogue, _ = damaged
    with pytest.raises(ImageError, match="checksum"):
        all_batches(stream_of(catalogue, loader_processes=1))


def test_a_shard_that_is_gone_is_named_by_a_loader_process(tmp_path: Path) -> None:
    write_small_set(tmp_path)
    catalogue = read_catalogue(str(tmp_path)).select("train")
    for path in tmp_path.glob("train-*.tar"):
        path.unlink()
    with pytest.raises(StorageError, match="does not exist"):
        all_batches(stream_of(catalogue, loader_processes=1))


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


def test_buffers_are_used_again(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    stream = stream_of(catalogue, read_ahead_mib=1)
    places = {batch.images.data_ptr() for batch in stream.batches(0, 200)}
    assert len(places) <= stream.num_prefetched() + 1


def test_a_loader_reads_on_while_it_decodes_one_piece(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    decoding, most, read_meanwhile = 0, 0, 0
    real_decode, real_read = loader_process.decode_into, loader_process.read_images

    def filling(*arguments: Any) -> TaskResult:
        nonlocal decoding, most
        decoding += 1
        most = max(most, decoding)
        time.sleep(0.005)
        result = real_decode(*arguments)
        decoding -= 1
        return result

    def reading(*arguments: Any) -> list[bytes]:
        nonlocal read_meanwhile
        read_meanwhile += decoding
        return real_read(*arguments)

    monkeypatch.setattr(loader_process, "decode_into", filling)
    monkeypatch.setattr(loader_process, "read_images", reading)

    def read(num_threads: int, **changes: int) -> None:
        stream = stream_of(catalogue)
        stream.settings = dataclasses.replace(
            stream.settings, num_threads=num_threads, num_reads=3, **changes
        )
        assert len(all_batches(stream)) == 5

    read(num_threads=1)
    assert most == 1
    assert read_meanwhile > 0
    read(num_threads=3)
    assert most == 3
    read_meanwhile = 0
    read(num_threads=1, encoded_bytes=1)
    assert read_meanwhile == 0  # one request at a time: there is no room for two


def test_a_step_tells_what_was_read(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    (batch,) = stream_of(catalogue).batches(0, 1)
    figures = batch.figures
    rows = stream_of(catalogue).plan.rows(0)
    assert figures.num_images == 16
    assert figures.num_bytes == int(catalogue.table["size"].to_numpy()[rows].sum())
    assert figures.read_s > 0
    assert figures.decode_s > 0


def waiting_figures(**changes: float) -> StreamFigures:
    names = [field.name for field in dataclasses.fields(StreamFigures)]
    return StreamFigures(**dict.fromkeys(names, 0) | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("figures", "options", "reason"),
    [
        (
            {"read_s": 3, "decode_s": 1},
            {},
            "loaders wait for bytes; try --data.loader-reads 16, or",
        ),
        ({"read_s": 3, "decode_s": 1}, {"cache_dir": "/x"}, "--data.loader-reads 16$"),
        ({"num_retries": 1, "read_s": 3}, {}, "look at the network"),
        ({"decode_s": 3}, {"loader_processes": 1}, "try --data.loader-processes 2"),
        ({"decode_s": 60}, {"loader_processes": 64}, "decoding takes all CPUs"),
    ],
)
def test_waiting_for_images_is_said_once_with_its_reason(
    figures: dict[str, float], options: dict[str, object], reason: str
) -> None:
    waiting = Waiting(DataConfig(**options))  # type: ignore[arg-type]
    told = [waiting.note(waiting_figures(waited_s=0.5, **figures), 1.0) for _ in range(30)]
    assert [text for text in told if text] == [told[9]]
    assert told[9].startswith("50% of the time the training waits")
    assert re.search(reason, told[9])
    idle = Waiting(DataConfig())
    assert not any(idle.note(waiting_figures(waited_s=0.1), 1.0) for _ in range(30))
