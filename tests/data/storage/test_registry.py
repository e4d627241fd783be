"""Which store an address belongs to, and how little a new one takes."""

from pathlib import Path

import pytest

from apdist.config import AugmentConfig, Config, DataConfig, RunConfig
from apdist.data import storage
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import Plan
from apdist.data.storage import StorageError
from apdist.data.storage.registry import STORES, store_of
from apdist.training.events import StepDone
from apdist.training.run_folder.runs import create_run, open_run
from tests.memory_store import MemoryStore
from tests.pictures import SIDE, write_small_set


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("s3://bucket/key", "s3"),
        ("https://host/x", "https"),
        ("http://host/x", "http"),
        ("", ""),
        ("/data", ""),
        ("a b/c:/d", ""),
        ("1x://y", ""),
    ],
)
def test_the_scheme_chooses_the_store(uri: str, scheme: str) -> None:
    assert store_of(uri) is STORES[scheme]


@pytest.mark.parametrize("uri", ["gs://bucket/key", "S3://bucket/key", "hf://datasets/x"])
def test_an_unknown_scheme_is_refused_with_those_that_are_known(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = uri.partition("://")[0]
    known = r"s3:// \(AWS_ENDPOINT_URL for other providers\), https:// to read, or a local path"
    for operation in (storage.exists, storage.list_files, storage.absolute):
        with pytest.raises(StorageError, match=f"{scheme}:// is not known .*; use {known}$"):
            operation(uri)
    monkeypatch.setitem(STORES, "mem", MemoryStore())
    with pytest.raises(StorageError, match=r"to read, mem:// .*, or a local path$"):
        storage.exists(uri)


def test_a_store_of_one_class_and_one_line_holds_data_sets_and_runs(
    monkeypatch: pytest.MonkeyPatch, shards: Path
) -> None:
    monkeypatch.setitem(STORES, "mem", MemoryStore())
    write_small_set("mem://data/small")
    images = [first_images(root) for root in ("mem://data/small", str(shards))]
    assert images[0] == images[1]
    config = Config(run=RunConfig(output="mem://runs", name="a"))
    run = create_run(config, "glyphs")
    with pytest.raises(ValueError, match="exists; choose another"):
        create_run(config, "glyphs")
    run.add(StepDone(step=1, figures={"loss": 0.5}))
    assert open_run("mem://runs/a").history == []
    run.catch_up()
    assert open_run("mem://runs/a").history == run.history


def first_images(root: str) -> list[bytes]:
    """The images of the first steps over a small set."""
    catalogue = read_catalogue(root).select("train")
    data = DataConfig(image_size=SIDE, group_size=4, loader_processes=0)
    plan = Plan(catalogue.labels, batch_size=16, group_size=4, seed=0)
    stream = TrainingStream(catalogue, plan, data, AugmentConfig(), lambda rows: rows)
    return [batch.images.numpy().tobytes() for batch in stream.batches(0, 3)]


@pytest.mark.parametrize(
    ("root", "name", "joined"),
    [
        ("s3://b/p/", "x", "s3://b/p/x"),
        ("s3://b", "x", "s3://b/x"),
        ("/data", "x", "/data/x"),
        ("/data", "/other/x", "/other/x"),
        ("/data", "s3://b/x", "s3://b/x"),
        ("https://h/p", "x", "https://h/p/x"),
        ("https://h/p/", "http://h/x", "http://h/x"),
        ("https://h/p/?signature=1", "x", "https://h/p/x?signature=1"),
    ],
)
def test_join(root: str, name: str, joined: str) -> None:
    assert storage.join(root, name) == joined


@pytest.mark.parametrize("uri", ["s3://", "s3:///key"])
def test_a_bucket_must_be_named(uri: str) -> None:
    for operation in (storage.read_bytes, storage.list_files, storage.is_empty, storage.remove):
        with pytest.raises(StorageError, match=r"names no bucket; expected s3://BUCKET/PREFIX"):
            operation(uri)
    with pytest.raises(StorageError, match=r"names no bucket; expected s3://BUCKET/PREFIX"):
        storage.exists(storage.join(uri, "x"))
