"""The training stream from a real S3 server, through a network that misbehaves."""

import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from apdist.config import AugmentConfig, DataConfig
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.loading.stream import Batch, TrainingStream
from apdist.data.plan.batch_sampler import Plan
from apdist.data.storage import RetryPolicy, StorageError
from tests.faulty_proxy import Fault, FaultyProxy, always, faulty_proxy, first, seeded
from tests.pictures import SIDE, write_small_set
from tests.s3_server import S3Server, s3_server

pytestmark = pytest.mark.s3
NUM_FAULTS = 300


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: S3Server) -> Iterator[FaultyProxy]:
    with faulty_proxy(server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def catalogue(
    server: S3Server, proxy: FaultyProxy, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Catalogue]:
    """The small set in a bucket, behind the proxy; the policy of the process is put back."""
    for name, value in {**server.environment(), "AWS_ENDPOINT_URL": proxy.endpoint}.items():
        monkeypatch.setenv(name, value)
    proxy.begin(first())
    if not storage.exists("s3://apdist/set/index.parquet"):
        write_small_set("s3://apdist/set")
    policy = storage.configure(RetryPolicy())
    yield read_catalogue("s3://apdist/set").select("train")
    storage.configure(policy)


def batches(catalogue: Catalogue, stop: int, start: int = 0, **options: object) -> list[Batch]:
    options = {"loader_processes": 0, "loader_reads": 8, "read_ahead_mib": 1} | options
    data = DataConfig(image_size=SIDE, group_size=4, **options)  # type: ignore[arg-type]
    plan = Plan(catalogue.labels, batch_size=16, group_size=4, seed=0)
    stream = TrainingStream(catalogue, plan, data, AugmentConfig(), lambda rows: rows)
    return [
        dataclasses.replace(batch, images=batch.images.clone())
        for batch in stream.batches(start, stop)
    ]


def assert_equal(found: list[Batch], expected: list[Batch]) -> None:
    assert [batch.step for batch in found] == [batch.step for batch in expected]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_batches_are_the_same_to_the_last_bit_through_hundreds_of_faults(
    catalogue: Catalogue, proxy: FaultyProxy
) -> None:
    undisturbed = batches(catalogue, 150)
    assert sum(batch.figures.num_retries for batch in undisturbed) == 0
    proxy.begin(seeded(7, 0.4, answer_bytes=4000, stall_s=0.3))
    disturbed = batches(catalogue, 150)
    assert proxy.num_faults.total() >= NUM_FAULTS
    assert_equal(disturbed, undisturbed)
    assert sum(batch.figures.num_retries for batch in disturbed) >= NUM_FAULTS / 2


@pytest.mark.parametrize("processes", [0, 1])
def test_beyond_the_deadline_a_named_error_comes_in_time(
    catalogue: Catalogue, proxy: FaultyProxy, processes: int
) -> None:
    proxy.begin(always(Fault("status", status=503, code="SlowDown")))
    started = time.monotonic()
    # Where the cores are busy the proxy may not come to its answer in time: silence, truly.
    with pytest.raises(
        StorageError, match=r"s3://apdist/set/train-.*gave up after .*( 503|went silent)"
    ):
        batches(catalogue, 3, read_deadline_s=3.0, loader_processes=processes)
    assert time.monotonic() - started < 20  # of which busy cores take most to start a loader


def test_warnings_of_loader_processes_are_heard(
    catalogue: Catalogue, proxy: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.begin(first(*[Fault("reset")] * 4))
    batches(catalogue, 1, loader_processes=1, loader_reads=1)
    assert "connection broken" in caplog.text


def test_a_server_that_is_killed_and_comes_back_costs_nothing_but_time(
    server: S3Server, catalogue: Catalogue
) -> None:
    expected = batches(catalogue, 120)

    def interrupt() -> None:
        time.sleep(0.2)
        server.kill()
        server.start()

    thread = threading.Thread(target=interrupt)
    thread.start()
    found = batches(catalogue, 120)
    thread.join()
    assert_equal(found, expected)


def test_a_shard_replaced_since_it_was_catalogued_is_named(catalogue: Catalogue) -> None:
    name = catalogue.column("shard")[0].as_py()
    uri = f"s3://apdist/set/{name}"
    right = storage.read_bytes(uri)
    storage.write_bytes(uri, right[:-1024] + bytes(1023) + b"x")
    try:
        with pytest.raises(StorageError, match=f"{name}.*replaced"):
            batches(catalogue, 5)
    finally:
        storage.write_bytes(uri, right)


def test_the_second_epoch_comes_from_the_disk_cache(catalogue: Catalogue, tmp_path: Path) -> None:
    plain = batches(catalogue, 12)
    cached = batches(catalogue, 12, cache_dir=str(tmp_path), loader_reads=1)
    assert_equal(cached, plain)
    hits = [batch.figures.num_hits for batch in cached]
    assert sum(batch.figures.num_misses for batch in cached) == len(os.listdir(tmp_path)) - 1
    assert sum(hits) > 12
    again = batches(catalogue, 12, cache_dir=str(tmp_path), loader_processes=2)
    assert_equal(again, plain)
    assert sum(batch.figures.num_misses for batch in again) == 0
