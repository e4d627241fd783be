"""The catalogue of the shards: one row per image, in one Parquet file beside them."""

import io
import json
import shlex
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from apdist.data import storage

INDEX_NAME = "index.parquet"
FORMAT_VERSION = 1

SCHEMA = pa.schema(
    [
        ("shard", pa.dictionary(pa.int32(), pa.string())),  # file name beside the index
        ("key", pa.string()),  # WebDataset key of the sample
        ("source", pa.string()),  # where the image came from, as the user knows it
        ("label", pa.int64()),
        ("label_name", pa.dictionary(pa.int32(), pa.string())),
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("offset", pa.int64()),  # of the encoded image inside the shard, bytes
        ("size", pa.int64()),  # of the encoded image, bytes
        ("crc32", pa.uint32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


@dataclass(frozen=True)
class Index:
    """The images under ``root``, in the order of the shards."""

    root: str
    table: pa.Table
    shards: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Size in bytes and ETag (empty on disk) of each shard when it was indexed."""

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class of each image."""
        labels: np.ndarray = self.table["label"].to_numpy()
        return labels

    def shard_uri(self, row: int) -> str:
        """Where the shard of image ``row`` lies."""
        return storage.join(self.root, self.table["shard"][row].as_py())

    def splits(self) -> dict[str, int]:
        """Number of images in each split."""
        counts = pc.value_counts(self.table["split"].cast(pa.string()))
        return {str(c["values"]): c["counts"].as_py() for c in counts}

    def select(self, split: str) -> "Index":
        """The images of ``split``.

        Raises:
            ValueError: the index has no such split.
        """
        table = self.table.filter(pc.equal(self.table["split"].cast(pa.string()), split))
        if table.num_rows == 0:
            there = ", ".join(f"{name} ({count} images)" for name, count in self.splits().items())
            raise ValueError(f"split {split!r} is not in {self.root}; it has {there or 'no image'}")
        return Index(self.root, table, self.shards)


def read_index(root: str) -> Index:
    """The index under ``root``.

    Raises:
        ValueError: there is none, it is damaged, or another version of apdist wrote it.
    """
    uri = storage.join(root, INDEX_NAME)
    if not storage.exists(uri):
        refuse_cut_off(root)
        raise ValueError(
            f"{uri} does not exist; write shards first: "
            f"`apdist prepare folder IMAGES --out {shlex.quote(root)}`"
        )
    try:
        file = pq.ParquetFile(io.BytesIO(storage.read_bytes(uri)))
        meta = json.loads((file.schema_arrow.metadata or {})[b"apdist"])
        table = file.read()
    except (pa.ArrowException, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{uri} is no index of apdist or is damaged; prepare it again") from error
    if meta["version"] != FORMAT_VERSION:
        raise ValueError(
            f"{uri} has format version {meta['version']}, this apdist reads {FORMAT_VERSION}; "
            "prepare it again"
        )
    shards = {name: (int(size), str(etag)) for name, (size, etag) in meta["shards"].items()}
    return Index(root, table.replace_schema_metadata(None).cast(SCHEMA), shards)


def refuse_cut_off(root: str) -> None:
    """The index is written last: shards without one are what a killed `apdist prepare` leaves.

    Raises:
        ValueError: there are such shards.
    """
    names = storage.list_files(root)
    if INDEX_NAME not in names and any(name.endswith((".tar", ".tmp")) for name in names):
        raise ValueError(
            f"{root} holds shards but no {INDEX_NAME}: an earlier `apdist prepare` was cut off and "
            "nothing in it can be used; remove it and prepare again, or choose another folder"
        )


def write_index(index: Index) -> None:
    """Write ``index`` beside its shards, whole or not at all."""
    meta = {
        "version": FORMAT_VERSION,
        "num_images": len(index),
        "num_classes": len(np.unique(index.labels)),
        "shards": index.shards,
    }
    target = io.BytesIO()
    pq.write_table(index.table.replace_schema_metadata({"apdist": json.dumps(meta)}), target)
    storage.write_bytes(storage.join(index.root, INDEX_NAME), target.getvalue())
