"""The loaders of a stream: they end with it, and it with them."""

from pathlib import Path

import pytest

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.loader_process import LoaderError
from tests.data.loading.streams import loaders, stream_of


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


def test_a_stream_that_is_left_ends_its_loaders(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    batches = stream_of(catalogue, loader_processes=2).batches(0, 100)
    kept = next(batches).images
    batches.close()
    assert not loaders()
    assert kept.sum() > 0  # its memory is still there
