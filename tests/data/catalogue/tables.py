"""Catalogues for the tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from apdist.data.catalogue.catalogue import (
    FORMAT_VERSION,
    SCHEMA,
)

SHARD_BYTES = 1000


def rows(count: int, *, num_splits: int = 1, mixed: bool = False) -> pa.Table:
    """So many images of 10 bytes, in shards of 50."""
    numbers = np.arange(count)
    splits = numbers % num_splits if mixed else numbers * num_splits // max(count, 1)
    columns: dict[str, Any] = {
        "shard": [f"{n // 50:03d}.tar" for n in numbers],
        "key": [f"bild-ü/{n:05d}" for n in numbers],
        "source": [f"folder/{n}.jpg" for n in numbers],
        "label": numbers // 5,
        "label_name": [f"class {n // 5}" for n in numbers],
        "split": [f"split {s}" for s in splits],
        "offset": (numbers % 50) * 20,
        "size": np.full(count, 10),
        "crc32": numbers,
        "width": numbers,
        "height": numbers,
    }
    return pa.table([pa.array(columns[f.name]).cast(f.type) for f in SCHEMA], schema=SCHEMA)


def write(root: Path, table: pa.Table, *, row_group_size: int = 30, **meta: Any) -> str:
    """A catalogue file as `write_index` makes it, but with small row groups and no checks."""
    shards = dict.fromkeys(table["shard"].unique().to_pylist(), (SHARD_BYTES, ""))
    meta = {"version": FORMAT_VERSION, "num_images": len(table), "shards": shards, **meta}
    known = {k: v for k, v in meta.items() if v is not None}
    pq.write_table(
        table.replace_schema_metadata({"apdist": json.dumps(known)}),
        root / "index.parquet",
        row_group_size=row_group_size,
        write_page_checksum=True,
    )
    return str(root)
