import errno
import fcntl
import logging
import multiprocessing
import os
import random
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import RetryPolicy, StorageError
from apdist.data.storage.disk_cache import ShardCache, _entries, _locked, file_name
from apdist.data.storage.registry import STORES
from apdist.data.storage.store import Version
from tests.faulty_proxy import Fault, always, faulty_proxy, first
from tests.memory_store import MemoryStore
from tests.range_server import WebFile, range_server

SHARD_BYTES = 300_000
DATA = random.Random(0).randbytes(SHARD_BYTES)


@pytest.fixture
def web() -> Iterator[WebFile]:
    previous = storage.configure(RetryPolicy(deadline_s=2, first_wait_s=0.01, longest_wait_s=0.05))
    with range_server(DATA) as file:
        yield file
    storage.configure(previous)


def shard(web: WebFile, number: int = 0) -> str:
    """An address of the same file that counts as another shard."""
    return f"{web.address}/file.tar?shard={number}"


def shards_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.is_file())


def num_downloads(web: WebFile, number: int = 0) -> int:
    """Requests but for the one that asks for the size."""
    return sum(path == f"/file.tar?shard={number}" for path in web.asked) - 1


def test_the_first_touch_fetches_the_shard_and_the_next_reads_the_disk(
    web: WebFile, tmp_path: Path
) -> None:
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    for offset in (5, 200_000, SHARD_BYTES - 10):
        assert cache.read_range(shard(web), offset, 10, "1") == DATA[offset : offset + 10]
    assert num_downloads(web) == 1
    counters = cache.counters()
    assert (counters.misses, counters.hits, counters.direct) == (1, 2, 0)
    assert shards_in(tmp_path) == [file_name(shard(web), "1")]


def test_the_file_has_a_name_that_people_can_read(web: WebFile) -> None:
    assert file_name("s3://bucket/train/000.tar", "x").endswith("-bucket_train_000.tar")
    names = {
        file_name(uri, etag) for uri in ("s3://b/a/0.tar", "s3://b/b/0.tar") for etag in ("1", "2")
    }
    assert len(names) == 4
    assert "signature" not in file_name("https://host/0.tar?signature=1", "")


def test_another_version_is_another_file(web: WebFile, tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    cache.read_range(shard(web), 0, 10, "1")
    web.data, web.etag = DATA[::-1], '"2"'
    assert cache.read_range(shard(web), 0, 10, "1") == DATA[:10]
    assert cache.read_range(shard(web), 0, 10, "2") == DATA[::-1][:10]


def test_a_shard_replaced_since_it_was_catalogued_is_an_error(web: WebFile, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="was replaced"):
        ShardCache(str(tmp_path), 10 * SHARD_BYTES).read_range(shard(web), 0, 10, "other")
    assert shards_in(tmp_path) == []


def test_a_shard_of_another_size_than_was_told_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shrinking(MemoryStore):
        def version(self, uri: str) -> Version:
            return Version(super().version(uri).size + 1, "")

    monkeypatch.setitem(STORES, "mem", Shrinking())
    storage.write_bytes("mem://bucket/shrinking.tar", b"0123456789")
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    with pytest.raises(StorageError, match="was replaced while it was read: 10 bytes instead of"):
        cache.read_range("mem://bucket/shrinking.tar", 0, 5, "")
    assert shards_in(tmp_path) == []


def test_what_was_used_longest_ago_makes_room(web: WebFile, tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 3 * SHARD_BYTES)
    for number in (0, 1, 2, 0, 3):
        cache.read_range(shard(web, number), 0, 10)
    assert shards_in(tmp_path) == sorted(file_name(shard(web, n), "") for n in (0, 2, 3))
    assert cache.counters().evicted == 1


def test_the_limit_holds_while_shards_are_on_their_way(web: WebFile, tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 2 * SHARD_BYTES)
    largest = 0

    def read(number: int) -> bytes:
        nonlocal largest
        block = cache.read_range(shard(web, number % 6), number, 10)
        with _locked(tmp_path / "locks" / "room"):
            largest = max(largest, sum(stat.st_size for _, stat in _entries(tmp_path)))
        return block

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(60))) == [DATA[n : n + 10] for n in range(60)]
    assert largest <= 2 * SHARD_BYTES


def test_many_threads_fetch_a_shard_once(web: WebFile, tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda o: cache.read_range(shard(web), o, 7), range(0, 3000, 7)))
    assert b"".join(found) == DATA[:3003]
    assert num_downloads(web) == 1


def read_in_process(folder: str, uri: str) -> bytes:
    return ShardCache(folder, 10 * SHARD_BYTES).read_range(uri, 11, 100)


@pytest.mark.timeout(60)
def test_many_processes_fetch_a_shard_once(web: WebFile, tmp_path: Path) -> None:
    spawned = multiprocessing.get_context("spawn")
    with spawned.Pool(3) as pool:
        found = pool.starmap(read_in_process, [(str(tmp_path), shard(web))] * 6)
        pool.close()
        pool.join()
    assert found == [DATA[11:111]] * 6
    assert num_downloads(web) == 1


def test_what_a_crash_leaves_blocks_nobody_and_is_cleared_away(
    web: WebFile, tmp_path: Path
) -> None:
    (tmp_path / f"{file_name(shard(web), '')}.part").write_bytes(b"half")
    (tmp_path / f"{file_name(shard(web, 1), '')}.part").write_bytes(bytes(SHARD_BYTES))
    cache = ShardCache(str(tmp_path), SHARD_BYTES)
    assert cache.read_range(shard(web), 0, 10) == DATA[:10]
    assert shards_in(tmp_path) == [file_name(shard(web), "")]


def test_a_shard_on_its_way_elsewhere_is_not_cleared_away(web: WebFile, tmp_path: Path) -> None:
    other = tmp_path / f"{file_name(shard(web, 1), '')}.part"
    other.write_bytes(bytes(SHARD_BYTES))
    cache = ShardCache(str(tmp_path), SHARD_BYTES)
    with other.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cache.read_range(shard(web), 0, 10) == DATA[:10]
    assert other.exists()
    assert cache.counters().direct == 1


def test_a_download_that_fails_leaves_nothing(web: WebFile, tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    with faulty_proxy(web.address) as proxy:
        uri = f"{proxy.endpoint}/file.tar"
        proxy.begin(lambda number: Fault("cut", after=400) if number else None)
        with pytest.raises(StorageError, match="gave up after"):
            cache.read_range(uri, 0, 10)
        assert shards_in(tmp_path) == []
        proxy.begin(first(Fault("cut", after=1000), Fault("reset", after=100_000)))
        assert cache.read_range(uri, 250_000, 10) == DATA[250_000:250_010]


def test_a_shard_above_the_limit_is_read_directly_with_one_warning(
    web: WebFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ShardCache(str(tmp_path), SHARD_BYTES - 1)
    for number in range(3):
        assert cache.read_range(shard(web, number % 2), 7, 10) == DATA[7:17]
    assert shards_in(tmp_path) == []
    assert cache.counters().direct == 3
    assert len(caplog.records) == 1
    assert "the limit is 299999 bytes" in caplog.text


def test_a_full_disk_is_passed_by_with_one_warning(
    web: WebFile, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    cache.read_range(shard(web, 9), 0, 10)

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)
    for number in range(3):
        assert cache.read_range(shard(web, number), 7, 10) == DATA[7:17]
    assert cache.read_range(shard(web, 9), 7, 10) == DATA[7:17]
    assert shards_in(tmp_path) == [file_name(shard(web, 9), "")]
    assert (cache.counters().direct, cache.counters().hits) == (3, 1)
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "No space left" in caplog.text


def test_a_file_cut_from_outside_is_fetched_again(web: WebFile, tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    cache.read_range(shard(web), 0, 10)
    os.truncate(tmp_path / file_name(shard(web), ""), 100)
    assert cache.read_range(shard(web), 95, 10) == DATA[95:105]


def test_a_range_beyond_the_end_is_an_error(web: WebFile, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="ends 5 bytes early"):
        ShardCache(str(tmp_path), 10 * SHARD_BYTES).read_range(shard(web), SHARD_BYTES - 5, 10)


def test_local_shards_are_not_cached(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(DATA)
    cache = ShardCache(str(tmp_path / "cache"), 10 * SHARD_BYTES)
    assert cache.read_range(str(tmp_path / "0.tar"), 3, 4) == DATA[3:7]
    assert shards_in(tmp_path / "cache") == []


def test_a_limit_that_is_not_positive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be positive, got 0 bytes"):
        ShardCache(str(tmp_path), 0)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="file/cache cannot be made"):
        ShardCache(str(tmp_path / "file" / "cache"), 1)


def test_a_server_that_fails_is_an_error_and_not_a_full_disk(web: WebFile, tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 10 * SHARD_BYTES)
    with faulty_proxy(web.address) as proxy:
        proxy.begin(always(Fault("status", status=403, code="AccessDenied")))
        with pytest.raises(StorageError, match="access denied"):
            cache.read_range(f"{proxy.endpoint}/file.tar", 0, 10)
    assert not cache.is_full


def test_a_cache_that_goes_or_closes_meanwhile_is_read_past(
    web: WebFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = ShardCache(str(tmp_path / "gone"), 10 * SHARD_BYTES)
    shutil.rmtree(tmp_path / "gone")
    assert cache.read_range(shard(web), 5, 10, "1") == DATA[5:15]
    assert cache.counters().direct == 1

    shared = ShardCache(str(tmp_path / "shared"), 10 * SHARD_BYTES)
    shared.read_range(shard(web), 5, 10, "1")
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, "another user's file")

        patch.setattr(os, "utime", refuse)
        assert shared.read_range(shard(web), 5, 10, "1") == DATA[5:15]
    assert shared.counters().hits == 1
