"""What every store keeps to: disks, S3, the web (to read), and one that only these tests know."""

import itertools
import os
import pickle
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from apdist.data import storage
from apdist.data.storage import MissingError, RangeError, StorageError
from apdist.data.storage.registry import STORES
from tests.memory_store import MemoryStore
from tests.range_server import range_server
from tests.s3_server import S3Server, s3_server

DATA = os.urandom(1000)
NAMES = ["a.tar", "a b.tar", "ü.tar", "~x&y=z+,;@$'().tar", "deep/er/a.tar", "no-extension"]
WRITTEN_NAMES = [*NAMES, "q?v#f", "100%20.tar", "a:b", "[x].tar"]
"""An address of a web server holds some of these in another spelling only."""
FULL = ["local", pytest.param("s3", marks=pytest.mark.s3), "memory"]
NUMBERS = itertools.count()


@dataclass(frozen=True)
class Place:
    """An empty folder in a store, and a way to put a file there."""

    root: str
    put: Callable[[str, bytes], None]

    def at(self, name: str) -> str:
        return storage.join(self.root, name)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def local(tmp_path: Path) -> Place:
    return written_to(str(tmp_path / "place"))


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return written_to(f"s3://apdist/place-{next(NUMBERS)}")


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setitem(STORES, "mem", MemoryStore())
    return written_to(f"mem://place-{next(NUMBERS)}")


@pytest.fixture
def web() -> Iterator[Place]:
    with range_server(b"") as server:
        put = lambda name, data: server.others.update({f"/place/{name}": data})  # noqa: E731
        yield Place(f"{server.address}/place", put)


def written_to(root: str) -> Place:
    return Place(root, lambda name, data: storage.write_bytes(storage.join(root, name), data))


@pytest.fixture(params=[*FULL, "web"])
def readable(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture(params=FULL)
def place(request: pytest.FixtureRequest) -> Place:
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.mark.parametrize("data", [DATA, b"", b"x", os.urandom(3 << 20)], ids=len)
def test_a_file_is_read_whole_and_from_any_byte_on(readable: Place, data: bytes) -> None:
    readable.put("file", data)
    assert storage.read_bytes(readable.at("file")) == data
    with storage.open_stream(readable.at("file")) as stream:
        assert stream.read(300) + stream.read() == data
    if data:
        with storage.open_stream(readable.at("file"), offset=len(data) // 2) as stream:
            assert stream.read() == data[len(data) // 2 :]


@pytest.mark.parametrize(
    ("offset", "size"), [(0, 1), (0, 1000), (999, 1), (10, 5), (5, 0), (1000, 0)]
)
def test_a_range_is_that_part_of_the_file(readable: Place, offset: int, size: int) -> None:
    readable.put("file", DATA)
    found = storage.read_range(readable.at("file"), offset, size)
    assert found == DATA[offset : offset + size]


@pytest.mark.parametrize(("offset", "size"), [(0, 1001), (995, 10), (1000, 1), (5000, 3)])
def test_a_range_beyond_the_end_is_an_error_that_names_the_file(
    readable: Place, offset: int, size: int
) -> None:
    readable.put("file", DATA)
    with pytest.raises(RangeError, match="place.*/file.* ends .* truncated or replaced"):
        storage.read_range(readable.at("file"), offset, size)


def test_a_missing_file_is_an_error_of_its_own_that_names_it(readable: Place) -> None:
    readable.put("here", b"x")
    uri = readable.at("nothing here")
    assert storage.exists(readable.at("here"))
    assert not storage.exists(uri)
    for read in (
        storage.read_bytes,
        storage.version,
        lambda uri: storage.read_range(uri, 0, 1),
        lambda uri: storage.open_stream(uri).read(),
    ):
        with pytest.raises(MissingError, match="nothing here.*; check the path"):
            read(uri)


def test_a_folder_and_what_lies_under_a_file_are_no_files(readable: Place) -> None:
    readable.put("folder/file", b"x")
    assert not storage.exists(readable.at("folder"))
    assert not storage.exists(readable.at("folder/file/below"))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_found_by_its_name(readable: Place, name: str) -> None:
    readable.put(name, DATA)
    assert storage.read_range(readable.at(name), 3, 4) == DATA[3:7]


def test_a_version_is_the_same_until_the_file_is_another(readable: Place) -> None:
    readable.put("file", DATA)
    before = storage.version(readable.at("file"))
    assert before.size == len(DATA)
    assert storage.version(readable.at("file")) == before
    time.sleep(0.05)  # clocks of file systems tick a hundred times a second
    readable.put("file", DATA[::-1])
    assert storage.version(readable.at("file")) != before


def test_another_version_than_was_asked_for_is_refused_where_there_are_etags(
    readable: Place,
) -> None:
    readable.put("file", DATA)
    uri, etag = readable.at("file"), storage.version(readable.at("file")).etag
    assert storage.read_range(uri, 0, 9, etag) == DATA[:9]
    assert bool(etag) == (storage.local_path(uri) is None)
    if etag:
        with pytest.raises(StorageError, match="file.* was replaced .* index the data again"):
            storage.read_range(uri, 0, 9, "other")
        with pytest.raises(StorageError, match="was replaced"):
            storage.open_stream(uri, etag="other").read()


def test_a_local_path_holds_the_file(readable: Place) -> None:
    readable.put("file", DATA)
    path = storage.local_path(readable.at("file"))
    assert path is None or path.read_bytes() == DATA


@pytest.mark.parametrize("name", WRITTEN_NAMES)
def test_what_is_written_is_listed_read_and_removed_by_its_name(place: Place, name: str) -> None:
    storage.write_bytes(place.at(name), DATA)
    above, _, short = name.rpartition("/")
    folder = place.at(above) if above else place.root
    assert storage.list_files(folder) == [short]
    assert storage.read_bytes(place.at(name)) == DATA
    storage.remove(place.at(name))
    assert not storage.exists(place.at(name))
    assert storage.is_empty(folder)


def test_what_is_written_again_is_replaced_whole(place: Place) -> None:
    storage.write_bytes(place.at("file"), DATA)
    storage.write_bytes(place.at("file"), b"yz")
    assert storage.read_bytes(place.at("file")) == b"yz"
    assert storage.list_files(place.root) == ["file"]


def test_a_local_target_becomes_the_file_and_nothing_else_is_left(place: Place) -> None:
    with storage.local_target(place.at("new/file")) as temporary:
        temporary.write_bytes(DATA)
    assert storage.read_bytes(place.at("new/file")) == DATA
    assert storage.list_files(place.at("new")) == ["file"]
    assert not temporary.exists()


def test_a_local_target_that_fails_leaves_the_old_file(place: Place) -> None:
    storage.write_bytes(place.at("file"), b"old")

    def write_half() -> None:
        with storage.local_target(place.at("file")) as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert storage.read_bytes(place.at("file")) == b"old"
    assert storage.list_files(place.root) == ["file"]


def test_listing_tells_files_from_folders(place: Place) -> None:
    for name in ("b.tar", "a.tar", "c.txt", "folder/x/deep", "folder-2/y", "other/z"):
        storage.write_bytes(place.at(name), b"")
    assert storage.list_files(place.root) == ["a.tar", "b.tar", "c.txt"]
    assert storage.list_files(place.root, ".tar") == ["a.tar", "b.tar"]
    assert storage.list_folders(place.root) == ["folder", "folder-2", "other"]
    assert storage.list_folders(place.at("folder/")) == ["x"]
    assert storage.list_files(place.at("missing")) == []
    assert storage.list_folders(place.at("missing")) == []


def test_a_folder_is_there_as_long_as_a_file_is(place: Place) -> None:
    assert storage.is_empty(place.root)
    storage.write_bytes(place.at("a/b"), b"x")
    assert not storage.is_empty(place.root)
    assert storage.is_empty(place.at("a/b/c"))
    storage.remove(place.at("a/b"))
    assert storage.is_empty(place.root)


def test_removing_leaves_others_and_passes_over_what_is_not_there(place: Place) -> None:
    storage.write_bytes(place.at("file"), b"x")
    storage.write_bytes(place.at("file-2"), b"y")
    for _ in range(2):
        storage.remove(place.at("file"))
    storage.remove(place.at("file-2/below"))
    assert storage.list_files(place.root) == ["file-2"]


def test_what_is_appended_is_there_or_known_not_to_be(place: Place) -> None:
    storage.write_bytes(place.at("file"), b"a")
    appended = storage.append_bytes(place.at("file"), b"b")
    assert storage.read_bytes(place.at("file")) == (b"ab" if appended else b"a")
    assert appended == (storage.local_path(place.root) is not None)


def test_a_temporary_file_of_a_killed_process_is_removed_and_nothing_else(local: Place) -> None:
    storage.write_bytes(local.at("run/a/file"), DATA)
    Path(local.at("run/a/.file.1.0badcafe.tmp")).write_bytes(b"half")
    storage.remove_unfinished(local.at("run"))
    assert os.listdir(local.at("run/a")) == ["file"]


@pytest.mark.s3
def test_an_upload_in_parts_of_a_killed_process_is_aborted_and_no_other(
    s3: Place, server: S3Server
) -> None:
    client, prefix = server.client(), s3.root.removeprefix("s3://apdist/")
    for run in ("run", "run-2"):
        client.create_multipart_upload(Bucket="apdist", Key=f"{prefix}/{run}/a/file")
    storage.remove_unfinished(s3.at("run"))
    left = client.list_multipart_uploads(Bucket="apdist", Prefix=prefix)["Uploads"]
    assert [upload["Key"] for upload in left] == [f"{prefix}/run-2/a/file"]


def test_ray_writes_where_we_read(place: Place) -> None:
    storage.write_bytes(place.at("run/config.json"), b"{}")
    path, filesystem = storage.for_ray(place.at("run"))
    filesystem = pickle.loads(pickle.dumps(filesystem))  # as on its way to the workers
    with (filesystem or LocalFileSystem()).open_output_stream(f"{path}/state") as stream:
        stream.write(DATA)
    assert storage.read_bytes(place.at("run/state")) == DATA


def test_a_slash_at_the_end_of_a_folder_makes_no_difference(place: Place) -> None:
    assert storage.join(f"{place.root}/", "x") == place.at("x")
    assert storage.absolute(f"{place.root}/") == place.root
    assert storage.trimmed(f"{place.root}//") == place.root
