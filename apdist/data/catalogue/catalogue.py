"""The catalogue of the shards: one row per image, in one Parquet file beside them."""

import dataclasses
import hashlib
import io
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apdist.data import storage
from apdist.data.catalogue.checks import check_rows
from apdist.data.catalogue.columns import StoredColumns, numbers
from apdist.data.storage.inside import is_whole, refuse_stray
from apdist.given import Place, place_of

CATALOGUE_NAME = "index.parquet"
FORMAT_VERSION = 1
_LARGEST = (1 << 63) - 1

SCHEMA = pa.schema(
    [
        ("shard", pa.dictionary(pa.int32(), pa.string())),  # file name beside the catalogue
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
class Catalogue:
    """The images under ``root``, in the order of the shards."""

    root: str
    columns: pa.Table | StoredColumns
    """In memory, or read column by column when asked for: ten million images need gigabytes."""
    shards: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Size in bytes and ETag (empty on disk) of each shard when the catalogue was written."""

    def __len__(self) -> int:
        return len(self.columns)

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of `SCHEMA`."""
        return self.columns.column(name)

    @property
    def table(self) -> pa.Table:
        """All columns; for a large catalogue use `column`, or the table of a few rows."""
        if isinstance(self.columns, pa.Table):
            return self.columns
        return pa.table([self.column(name) for name in SCHEMA.names], schema=SCHEMA)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) int64 class of each image."""
        labels: NDArray[np.int64] = numbers(self.column("label").combine_chunks())
        return labels

    def shard_uri(self, row: int) -> str:
        """Where the shard of image ``row`` lies."""
        return storage.join(self.root, self.column("shard")[row].as_py())

    def fingerprint(self) -> str:
        """Hash of what the images are and of how they are labelled, in their order."""
        found = hashlib.sha256()
        for name in ("label", "crc32"):
            found.update(self.column(name).to_numpy().tobytes())
        return found.hexdigest()[:16]

    def splits(self) -> dict[str, int]:
        """Number of images in each split."""
        codes, names = codes_and_names(self.column("split"))
        return dict(zip(names, np.bincount(codes, minlength=len(names)).tolist(), strict=True))

    def select(self, split: str) -> "Catalogue":
        """The images of ``split``.

        Raises:
            ValueError: the catalogue has no such split.
        """
        codes, names = codes_and_names(self.column("split"))
        rows = np.flatnonzero(codes == (names.index(split) if split in names else -1))
        if not len(rows):
            counts = {name: count for name, count in self.splits().items() if count}
            there = ", ".join(f"{name} ({count} images)" for name, count in counts.items())
            raise ValueError(
                f"split {split!r} is not in {storage.shown(self.root)}; it has "
                f"{there or 'no image'}"
            )
        return self.subset(rows)

    def subset(self, rows: NDArray[np.int64]) -> "Catalogue":
        """The images at ``rows``, in ascending order; neighbours are not copied."""
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
            first, stop = int(rows[0]), int(rows[-1]) + 1
            if isinstance(self.columns, pa.Table):
                return dataclasses.replace(self, columns=self.columns.slice(first, stop - first))
            return dataclasses.replace(self, columns=self.columns.subset(range(first, stop)))
        if isinstance(self.columns, pa.Table):
            return dataclasses.replace(self, columns=self.columns.take(rows))
        return dataclasses.replace(self, columns=self.columns.subset(rows))


def codes_and_names(column: pa.ChunkedArray) -> tuple[NDArray[np.int32], list[str]]:
    """A column of few names as codes (n,) and the names they stand for.

    Raises:
        ValueError: an image has none.
    """
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pa.ChunkedArray):  # no chunk at all
        return np.empty(0, dtype=np.int32), []
    if whole.null_count:
        raise ValueError(
            f"{whole.null_count} images of the catalogue lack a name of their class, split or "
            "shard; prepare or index it again"
        )
    return numbers(whole.indices), whole.dictionary.to_pylist()


def read_catalogue(root: Place) -> Catalogue:
    """The catalogue under ``root``, with all rows checked; columns are read when they are needed.

    Raises:
        ValueError: there is none, it is damaged, another version of apdist wrote it, or a row of
            it is impossible.
    """
    root = place_of("root", root)
    uri = storage.join(root, CATALOGUE_NAME)
    if not storage.exists(uri):
        if storage.is_read_only(root):
            raise ValueError(
                f"{storage.shown(uri)} does not exist; check the address, and that the catalogue "
                "is served beside the shards"
            )
        path = storage.local_path(root)
        if path is not None and path.is_file():
            raise ValueError(f"{root} is a file; shards lie in a folder: name that")
        refuse_cut_off(root)
        if storage.list_folders(root):
            raise ValueError(
                f"{uri} does not exist; if {root} holds pictures, prepare them: `apdist prepare "
                f"folder {shlex.quote(root)} --out SHARDS`, or `apdist train PRESET "
                f"{shlex.quote(root)}` for both"
            )
        raise ValueError(
            f"{uri} does not exist; write shards first: "
            f"`apdist prepare folder IMAGES --out {shlex.quote(root)}`, or `apdist prepare glyphs "
            f"--out {shlex.quote(root)}` for the drawn ones"
        )
    columns = StoredColumns(uri, SCHEMA)
    shards = _shards(columns)
    _refuse_strays(root, shards)
    check_rows(columns, shards)
    return Catalogue(root, columns, shards)


def _refuse_strays(root: str, shards: Iterable[str]) -> None:
    """Refuse shards that do not lie beside the catalogue, but where `prepare index` may find them.

    Raises:
        ValueError: the first one.
    """
    where = storage.shown(storage.join(root, CATALOGUE_NAME))
    for name in shards:
        refuse_stray(name, where)
        if storage.is_read_only(root) and is_whole(name) and storage.local_path(name) is not None:
            raise ValueError(
                f"{where} names {name!r}, a file of this machine, and comes from another; index "
                "the shards by the address that they are served at"
            )


def _shards(columns: StoredColumns) -> dict[str, tuple[int, str]]:
    """Size and ETag of each shard, from the file's metadata."""
    try:
        meta: dict[str, Any] = columns.metadata("apdist")
        version = meta["version"]
        if version == FORMAT_VERSION:
            if meta["num_images"] != len(columns):
                raise ValueError("number of rows")
            shards = {name: (int(size), str(etag)) for name, (size, etag) in meta["shards"].items()}
            if not all(0 <= size <= _LARGEST for size, _ in shards.values()):
                raise ValueError("size of a shard")
            return shards
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"{columns.uri} is no catalogue of apdist or is damaged; prepare it again"
        ) from error
    raise ValueError(
        f"{columns.uri} has format version {version}, this apdist reads {FORMAT_VERSION}; prepare "
        "it again"
    )


def write_catalogue(catalogue: Catalogue) -> None:
    """Write ``catalogue`` beside its shards, whole or not at all."""
    meta = {
        "version": FORMAT_VERSION,
        "num_images": len(catalogue),
        "num_classes": len(pc.unique(catalogue.column("label"))),
        "shards": catalogue.shards,
    }
    table = catalogue.table.replace_schema_metadata({"apdist": json.dumps(meta)})
    target = io.BytesIO()
    pq.write_table(table, target, write_page_checksum=True)
    storage.write_bytes(storage.join(catalogue.root, CATALOGUE_NAME), target.getvalue())


def refuse_cut_off(root: str) -> None:
    """The catalogue is written last: shards without one are what a killed `apdist prepare` leaves.

    Raises:
        ValueError: there are such shards.
    """
    names = storage.list_files(root)
    if CATALOGUE_NAME not in names and any(name.endswith((".tar", ".tmp")) for name in names):
        raise ValueError(
            f"{root} holds shards but no {CATALOGUE_NAME}: index the shards of others with "
            f"`apdist prepare index {shlex.quote(root)}`; what an `apdist prepare` left that was "
            "cut off is of no use, remove it and prepare again"
        )
