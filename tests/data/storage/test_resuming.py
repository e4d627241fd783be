"""Reads and writes through a network that fails, against a real S3 server and a web server."""

import dataclasses
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.storage import RetryPolicy, StorageError, s3
from tests.faulty_proxy import Fault, FaultyProxy, always, faulty_proxy, first, seeded, wait_for
from tests.range_server import WebFile, range_server
from tests.s3_server import S3Server, s3_server

# A busy machine wakes a thread late; without a deadline each fault would last 30 s or for ever.
SLACK_S = 15.0
QUICK = RetryPolicy(
    deadline_s=20,
    first_wait_s=0.005,
    longest_wait_s=0.05,
    connect_timeout_s=1,
    silence_timeout_s=0.4,
)
# For tests that count: silence is a fault of its own, and a busy machine is silent for a while.
PATIENT = dataclasses.replace(QUICK, silence_timeout_s=15)
SHORT = RetryPolicy(
    deadline_s=2,
    first_wait_s=0.02,
    longest_wait_s=0.2,
    connect_timeout_s=0.5,
    silence_timeout_s=0.5,
)
LASTING = [
    Fault("cut"),
    Fault("reset"),
    Fault("reset", after=700),
    Fault("stall", seconds=30),
    Fault("stall", after=700, seconds=30),
    Fault("trickle", after=700, seconds=0.02),
    Fault("delay", seconds=30),
    Fault("status", status=503, code="SlowDown"),
    Fault("status", status=500, code=""),
]
FILE_BYTES = 4 << 20
RANGE_BYTES = 100_000
NUM_RANGES = 420


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def s3_proxy(server: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def bucket(
    server: S3Server, s3_proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """The proxy before the S3 server, which the environment names."""
    for name, value in {**server.environment(), "AWS_ENDPOINT_URL": s3_proxy.endpoint}.items():
        monkeypatch.setenv(name, value)
    s3_proxy.begin(first())
    with using(QUICK):
        yield s3_proxy


@pytest.fixture
def web() -> Iterator[tuple[FaultyProxy, WebFile]]:
    """The proxy before a web server with one file."""
    with (
        range_server(some_bytes(FILE_BYTES)) as file,
        faulty_proxy(file.address) as proxy,
        using(QUICK),
    ):
        yield proxy, file


class using:  # noqa: N801 - reads as a statement
    """Follow a policy inside the block."""

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy

    def __enter__(self) -> None:
        self.previous = storage.configure(self.policy)

    def __exit__(self, *error: object) -> None:
        storage.configure(self.previous)


def some_bytes(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def read_ranges(uri: str, data: bytes, etag: str, *, number: int, threads: int) -> list[bytes]:
    """Random ranges of ``data``, read by several threads at once, in order."""
    draw = random.Random(1)
    offsets = [draw.randrange(len(data) - RANGE_BYTES) for _ in range(number)]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda o: storage.read_range(uri, o, RANGE_BYTES, etag), offsets))
    assert all(
        block == data[offset : offset + RANGE_BYTES]
        for block, offset in zip(found, offsets, strict=True)
    )
    return found


def survive_many_faults(proxy: FaultyProxy, uri: str, data: bytes, etag: str) -> None:
    """Eight threads, three hundred faults and more, each kind: the same bytes."""
    undisturbed = read_ranges(uri, data, etag, number=NUM_RANGES, threads=8)
    before = storage.counters()
    proxy.begin(seeded(7, 0.6, answer_bytes=RANGE_BYTES))
    assert read_ranges(uri, data, etag, number=NUM_RANGES, threads=8) == undisturbed
    spent = storage.counters().since(before)
    broken = proxy.num_faults.total() - proxy.num_faults["delay"]
    assert broken >= 300
    assert set(proxy.num_faults) == {"cut", "reset", "stall", "truncate", "delay", "status"}
    # No fault is lost; on a busy machine an answer may come too late without one.
    assert spent.retries >= broken
    assert spent.requests == NUM_RANGES + spent.retries
    assert spent.bytes_read == NUM_RANGES * RANGE_BYTES


def gives_up(operation: Callable[[], object]) -> None:
    """Under `SHORT`, a named error, neither a hang nor a surrender without a try."""
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"gave up after .*deadline 2 s"):
        operation()
    assert time.monotonic() - started < SHORT.deadline_s + SLACK_S


def all_give_up(operations: list[Callable[[], object]]) -> None:
    """Each in a thread of its own: they wait for their deadlines together."""
    with using(SHORT), ThreadPoolExecutor(len(operations)) as pool:
        list(pool.map(gives_up, operations))


@pytest.mark.s3
def test_300_faults_on_the_way_to_s3_change_no_byte(bucket: FaultyProxy) -> None:
    data = some_bytes(FILE_BYTES)
    storage.write_bytes("s3://apdist/many", data)
    survive_many_faults(bucket, "s3://apdist/many", data, hashlib.md5(data).hexdigest())


def test_300_faults_on_the_way_to_a_web_server_change_no_byte(
    web: tuple[FaultyProxy, WebFile],
) -> None:
    proxy, file = web
    survive_many_faults(proxy, f"{proxy.endpoint}/file.tar", file.data, "1")


@pytest.mark.s3
def test_a_fault_of_s3_that_lasts_is_an_error_at_the_deadline(bucket: FaultyProxy) -> None:
    names = [f"lasting-{number}" for number in range(len(LASTING))]
    for name in names:
        storage.write_bytes(f"s3://apdist/{name}", some_bytes(2 * RANGE_BYTES))
    bucket.faults_of = dict(zip(names, LASTING, strict=True))
    read = partial(storage.read_range, offset=1000, size=RANGE_BYTES)
    all_give_up([partial(read, f"s3://apdist/{name}") for name in names])
    wait_for(lambda: bucket.num_of_each.keys() == set(LASTING))


def test_a_fault_of_a_web_server_that_lasts_is_an_error_at_the_deadline(
    web: tuple[FaultyProxy, WebFile],
) -> None:
    _, file = web
    with ExitStack() as stack:
        # A server of its own for each: one that has answered is waited for in another way.
        proxies = [stack.enter_context(faulty_proxy(file.address)) for _ in LASTING]
        for proxy, fault in zip(proxies, LASTING, strict=True):
            proxy.begin(always(fault))
        read = partial(storage.read_range, offset=1000, size=RANGE_BYTES)
        all_give_up([partial(read, f"{proxy.endpoint}/file.tar") for proxy in proxies])
        for proxy, fault in zip(proxies, LASTING, strict=True):
            wait_for(lambda proxy=proxy, fault=fault: proxy.num_of_each[fault] >= 1)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fault", "deadline_s"),
    [
        # The last byte comes when little of the deadline is left, the timeout was set before.
        (Fault("falter", after=700, seconds=0.1), 1.2),
        # No gap is long enough for any timeout.
        (Fault("trickle", after=700), 0.2),
    ],
)
def test_bytes_that_come_too_slowly_are_an_error_at_the_deadline(
    web: tuple[FaultyProxy, WebFile], fault: Fault, deadline_s: float
) -> None:
    proxy, _ = web
    proxy.begin(always(fault))
    started = time.monotonic()
    with (
        using(RetryPolicy(deadline_s=deadline_s, first_wait_s=0.02, silence_timeout_s=30)),
        pytest.raises(StorageError, match="gave up after"),
    ):
        storage.read_range(f"{proxy.endpoint}/file.tar", 0, FILE_BYTES)
    assert time.monotonic() - started < deadline_s + SLACK_S


def test_an_answer_cut_anywhere_in_its_headers_is_asked_for_again(
    web: tuple[FaultyProxy, WebFile],
) -> None:
    proxy, file = web
    uri = f"{proxy.endpoint}/file.tar"
    with using(PATIENT):
        for after in range(0, 260, 3):
            proxy.begin(first(Fault("cut", after=after)))
            assert storage.read_range(uri, 1000, 5000, "1") == file.data[1000:6000]
            assert proxy.num_faults.total() == 1


@pytest.mark.parametrize("fault", [Fault("stall", seconds=30), Fault("reset"), Fault("status")])
@pytest.mark.s3
def test_writing_listing_and_deleting_end_at_the_deadline(
    bucket: FaultyProxy, fault: Fault
) -> None:
    bucket.begin(always(fault))
    all_give_up(
        [
            lambda: storage.write_bytes("s3://apdist/x", b"x"),
            lambda: storage.list_files("s3://apdist"),
            lambda: storage.remove("s3://apdist/x"),
        ]
    )


@pytest.mark.s3
def test_a_server_that_refuses_connections_is_waited_for_until_the_deadline(
    bucket: FaultyProxy,
) -> None:
    data = some_bytes(2 * RANGE_BYTES)
    storage.write_bytes("s3://apdist/away", data)
    bucket.refuse()
    try:
        all_give_up([lambda: storage.read_range("s3://apdist/away", 1000, RANGE_BYTES)])
        back = threading.Timer(0.4, bucket.listen)
        back.start()
        assert storage.read_range("s3://apdist/away", 5, 5) == data[5:10]
        back.join()
    finally:
        if bucket._server is None:
            bucket.listen()


@pytest.mark.s3
def test_a_refused_read_is_an_error_at_once(bucket: FaultyProxy) -> None:
    storage.write_bytes("s3://apdist/secret", b"x" * 10)
    bucket.begin(always(Fault("status", status=403, code="AccessDenied")))
    denied = pytest.raises(StorageError, match=r"s3://apdist/secret: access denied.*AccessDenied")
    with using(PATIENT), denied:
        storage.read_range("s3://apdist/secret", 0, 10)
    assert bucket.num_requests == 1


@pytest.mark.s3
def test_a_whole_object_is_read_once_although_its_connections_break(bucket: FaultyProxy) -> None:
    data = some_bytes(FILE_BYTES)
    storage.write_bytes("s3://apdist/whole", data)
    before = storage.counters()
    bucket.begin(first(*[Fault("reset", after=700_000)] * 3, Fault("cut", after=300_000)))
    with using(PATIENT), storage.open_stream("s3://apdist/whole") as stream:
        assert stream.read(1_000_000) + stream.read() == data
    assert bucket.num_faults == {"reset": 3, "cut": 1}
    # A read that began again at the first byte would fetch more than what a broken
    # connection held in its buffers.
    assert storage.counters().since(before).bytes_read == len(data)


@pytest.mark.s3
def test_writes_and_lists_survive_faults(
    bucket: FaultyProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)  # S3 takes no smaller ones
    data = some_bytes(12_000_000)
    bucket.begin(seeded(3, 0.5, answer_bytes=300))
    for number in range(2):
        with storage.local_target(f"s3://apdist/written/file-{number}") as temporary:
            temporary.write_bytes(data)
    for number in range(10):
        storage.write_bytes(f"s3://apdist/written/small-{number}", b"small")
    names = storage.list_files("s3://apdist/written")
    storage.remove("s3://apdist/written/small-1")
    assert bucket.num_faults.total() >= 10
    bucket.begin(first())
    assert names == ["file-0", "file-1", *(f"small-{number}" for number in range(10))]
    assert storage.list_files("s3://apdist/written", "-1") == ["file-1"]
    assert all(storage.read_bytes(f"s3://apdist/written/file-{i}") == data for i in range(2))


@pytest.mark.s3
def test_an_answer_that_lost_its_body_is_no_empty_folder_and_no_upload(
    bucket: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)
    storage.write_bytes("s3://apdist/listed/there", b"x")
    # Of whose head only the status came: the end of a connection ends a head as well.
    empty = Fault("cut", after=len(b"HTTP/1.1 200 OK\r\n"))
    bucket.begin(first(empty))
    assert storage.list_files("s3://apdist/listed") == ["there"]
    # The upload is begun, then all parts are sent; the last answer says that it is complete.
    data = some_bytes(6_000_000)
    bucket.begin(lambda number: empty if number in (0, 4) else None)
    with storage.local_target("s3://apdist/listed/large") as temporary:
        temporary.write_bytes(data)
    assert bucket.num_faults == {"cut": 2}
    bucket.begin(first())
    assert storage.read_bytes("s3://apdist/listed/large") == data


@pytest.mark.s3
def test_a_large_object_that_cannot_be_finished_leaves_nothing(
    bucket: FaultyProxy, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", 5 << 20)  # S3 takes no smaller ones
    denied = Fault("status", status=403, code="AccessDenied")
    bucket.begin(lambda number: denied if number == 3 else None)
    with using(PATIENT), pytest.raises(StorageError, match="access denied"):
        storage.write_bytes("s3://apdist/unfinished", some_bytes(12_000_000))
    assert not storage.exists("s3://apdist/unfinished")
    uploads = server.client().list_multipart_uploads(Bucket="apdist").get("Uploads", ())
    assert "unfinished" not in [upload["Key"] for upload in uploads]


@pytest.mark.s3
def test_an_object_replaced_in_mid_read_is_an_error(bucket: FaultyProxy, server: S3Server) -> None:
    storage.write_bytes("s3://apdist/changing", some_bytes(FILE_BYTES))
    bucket.begin(always(Fault("cut", after=2_000_000)))
    with storage.open_stream("s3://apdist/changing") as stream:
        stream.read(100_000)
        server.client().put_object(
            Bucket="apdist", Key="changing", Body=some_bytes(FILE_BYTES, seed=1)
        )
        with pytest.raises(StorageError, match="changing.*was replaced"):
            stream.read()


@pytest.mark.s3
def test_s3_itself_is_asked_for_the_version_of_the_catalogue(bucket: FaultyProxy) -> None:
    storage.write_bytes("s3://apdist/other", b"0123456789")
    with pytest.raises(StorageError, match="was replaced.*HTTP 412"):
        storage.read_range("s3://apdist/other", 0, 5, etag="0" * 32)


def test_a_web_file_replaced_in_mid_read_is_an_error(web: tuple[FaultyProxy, WebFile]) -> None:
    proxy, file = web
    proxy.begin(always(Fault("cut", after=2_000_000)))
    with storage.open_stream(f"{proxy.endpoint}/file.tar") as stream:
        stream.read(100_000)
        file.data, file.etag = some_bytes(FILE_BYTES, seed=1), '"2"'
        with pytest.raises(StorageError, match="was replaced"):
            stream.read()


@pytest.mark.s3
@pytest.mark.timeout(120)
def test_a_server_killed_in_mid_read_and_started_again_changes_no_byte(
    server: S3Server, bucket: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = some_bytes(24 << 20)
    server.client().put_object(Bucket="apdist", Key="killed", Body=data)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    before = storage.counters()
    with (
        using(RetryPolicy(deadline_s=60, first_wait_s=0.05, longest_wait_s=0.5)),
        storage.open_stream("s3://apdist/killed") as stream,
    ):
        begun = stream.read(3_000_000)
        server.kill()
        again = threading.Timer(0.5, server.start)
        again.start()
        assert begun + stream.read() == data
        again.join()
    assert storage.counters().since(before).retries >= 1
