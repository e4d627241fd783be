"""Files of web servers: read in all ways, and never written."""

import pytest

from apdist.data import storage
from apdist.data.storage import StorageError, Version
from tests.data.storage.conftest import DATA
from tests.range_server import WebFile

SIGNATURE = "X-Amz-Signature=5ec2e7"


pytestmark = pytest.mark.usefixtures("policy")


def test_a_web_file_is_read_in_all_ways(web: WebFile) -> None:
    uri = f"{web.address}/file.tar"
    assert storage.exists(uri)
    assert storage.version(uri) == Version(len(DATA), "1")
    assert storage.read_bytes(uri) == DATA
    assert storage.read_range(uri, 300, 20, "1") == DATA[300:320]
    with storage.open_stream(uri) as stream:
        assert stream.read(7) + stream.read() == DATA
    with storage.open_stream(uri, offset=1000) as stream:
        assert stream.read() == DATA[1000:]


def test_an_empty_web_file_has_a_size(web: WebFile) -> None:
    web.data = b""
    assert storage.version(f"{web.address}/file.tar") == Version(0, "1")
    assert storage.read_bytes(f"{web.address}/file.tar") == b""


def test_a_missing_web_file_is_not_there_and_named(web: WebFile) -> None:
    assert not storage.exists(f"{web.address}/other")
    with pytest.raises(StorageError, match="/other: no such file"):
        storage.read_bytes(f"{web.address}/other")


def test_a_range_beyond_a_web_file_is_an_error(web: WebFile) -> None:
    with pytest.raises(StorageError, match="ends 5 bytes early"):
        storage.read_range(f"{web.address}/file.tar", len(DATA) - 5, 10)
    with pytest.raises(StorageError, match="ends before that byte"):
        storage.read_range(f"{web.address}/file.tar", len(DATA) + 5, 10)


def test_another_version_of_a_web_file_is_refused(web: WebFile) -> None:
    with pytest.raises(StorageError, match="was replaced"):
        storage.read_range(f"{web.address}/file.tar", 3, 10, "2")


def test_the_web_is_read_only() -> None:
    uri = "https://host/folder"
    for operation in (storage.list_files, storage.list_folders, storage.is_empty):
        with pytest.raises(StorageError, match="listing is not possible over http"):
            operation(uri)
    with pytest.raises(StorageError, match="writing is not possible over http"):
        storage.write_bytes(uri, b"")
    with pytest.raises(StorageError, match="writing is not possible"), storage.local_target(uri):
        pass
    with pytest.raises(StorageError, match="writing is not possible"):
        storage.for_ray(uri)
    with pytest.raises(StorageError, match="deleting is not possible"):
        storage.remove(uri)


def test_a_signed_address_serves_a_whole_folder() -> None:
    root = f"https://host/shards/?{SIGNATURE}"
    assert storage.join(root, "index.parquet") == f"https://host/shards/index.parquet?{SIGNATURE}"
    assert storage.join("https://host/shards", "0.tar") == "https://host/shards/0.tar"
