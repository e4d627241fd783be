"""Memory of batches."""

from pathlib import Path

from apdist.data.catalogue.catalogue import read_catalogue
from tests.data.loading.streams import stream_of


def test_buffers_are_used_again(shards: Path) -> None:
    catalogue = read_catalogue(str(shards)).select("train")
    stream = stream_of(catalogue, read_ahead_mib=1)
    places = {batch.images.data_ptr() for batch in stream.batches(0, 200)}
    assert len(places) <= stream.num_prefetched() + 1
