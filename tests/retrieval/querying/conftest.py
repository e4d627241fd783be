"""A run, untrained, with an index of the small set in it."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.model.pretrained import load_model
from apdist.retrieval.describe import describe_split
from apdist.retrieval.index import build_index, save_index
from apdist.retrieval.querying.open_index import OpenIndex
from apdist.retrieval.querying.opening import open_index
from tests.pictures import write_small_set
from tests.pipelines.measure.scenes import untrained_run


@dataclass(frozen=True)
class Indexed:
    """Where it lies, and what is in it."""

    root: Path
    run: str
    catalogue: Catalogue

    def encoded(self, row: int) -> bytes:
        """The file of an image."""
        entry = entries_of(self.catalogue).slice(row, 1).to_pylist()[0]
        return storage.read_range(entry["shard"], entry["offset"], entry["size"])


def entries_of(catalogue: Catalogue) -> pa.Table:
    """As `apdist index` has them."""
    table = catalogue.table
    shards = [storage.join(catalogue.root, name) for name in table["shard"].to_pylist()]
    kept = table.select(["key", "source", "label", "label_name", "offset", "size"])
    return kept.append_column("shard", pa.array(shards).dictionary_encode())


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """A run whose index holds 30 images of 5 classes."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("querying")
    write_small_set(root / "shards", num_classes=5)
    run = untrained_run(root / "runs", root / "shards")
    catalogue, model = read_catalogue(str(root / "shards")), load_model(run.uri)
    descriptors = describe_split(model.network, catalogue, fit=model.fit, progress=lambda _: None)
    index = build_index(descriptors, entries_of(catalogue), kind="exact", model_id=model.model_id)
    save_index(index, f"{run.uri}/index")
    return Indexed(root, run.uri, catalogue)


@pytest.fixture(scope="session")
def opened(indexed: Indexed) -> OpenIndex:
    """The index of that run."""
    return open_index(indexed.run, device="cpu")
