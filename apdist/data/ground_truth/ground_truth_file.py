"""Ground truth on disk: a Parquet file with a row for each query, or a person's CSV file.

    query      string         key of the query image
    box        list<double>   left, top, right, bottom in pixels; null where all of it is the query
    positives  list<string>   keys of the images that are right; or, in its place,
    easy, hard list<string>   those that are easy and hard to find
    junk       list<string>   neither right nor wrong; may be missing, null or empty

The schema's metadata names the protocol: `apdist.protocol`. In a CSV file, whose protocol is `own`,
lists are separated by | or ; and a box is four numbers with spaces between.
"""

from __future__ import annotations

import io
import re
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from apdist.config.values import suggestion
from apdist.data import storage
from apdist.data.ground_truth.ground_truth import (
    JUDGEMENTS,
    GroundTruth,
    JudgedQuery,
)
from apdist.data.preparing.tables.spreadsheets import spreadsheet_rows

NAME = "ground_truth.parquet"
"""Of the file beside the catalogue of a prepared data set."""
PROTOCOL_KEY = b"apdist.protocol"
COLUMNS = ("query", "box", *JUDGEMENTS)
_KEYS = pa.list_(pa.string())
_SEPARATOR = re.compile(r"[|;]")


def read_ground_truth(uri: str) -> GroundTruth:
    """Read a ground truth from Parquet or, where the name ends in .csv or .tsv, from text.

    Raises:
        ValueError: there is none, or it contradicts itself; names ``uri``.
    """
    if not storage.exists(uri):
        raise ValueError(
            f"{storage.shown(uri)} {storage.absence(uri)}; give a ground truth as .parquet or .csv"
        )
    data = storage.read_bytes(uri)
    try:
        if uri.lower().endswith((".csv", ".tsv")):
            return _from_text(data)
        return _from_parquet(data)
    except ValueError as error:
        raise ValueError(f"{storage.shown(uri)} is no ground truth: {error}") from error


def write_ground_truth(uri: str, ground_truth: GroundTruth) -> None:
    """Write ``ground_truth`` as Parquet, whole or not at all."""
    left_out = ("positives",) if ground_truth.is_graded else ("easy", "hard")
    columns: dict[str, pa.Array] = {
        "query": pa.array([query.key for query in ground_truth.queries], pa.string()),
        "box": pa.array([query.box for query in ground_truth.queries], pa.list_(pa.float64())),
    }
    for name in JUDGEMENTS:
        if name not in left_out:
            keys = [list(getattr(query, name)) for query in ground_truth.queries]
            columns[name] = pa.array(keys, _KEYS)
    table = pa.table(columns).replace_schema_metadata({PROTOCOL_KEY: ground_truth.protocol})
    target = io.BytesIO()
    pq.write_table(table, target)
    storage.write_bytes(uri, target.getvalue())


def _from_parquet(data: bytes) -> GroundTruth:
    try:
        table = pq.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise ValueError("it is no Parquet file, or is damaged; write it again") from error
    _check_columns(table.column_names)
    rows = _cast(table).to_pylist()
    protocol = (table.schema.metadata or {}).get(PROTOCOL_KEY, b"own").decode(errors="replace")
    queries = tuple(_query(row, f"row {number}") for number, row in enumerate(rows))
    return GroundTruth(protocol=protocol, queries=queries)


def _cast(table: pa.Table) -> pa.Table:
    types = {
        "query": pa.string(),
        "box": pa.list_(pa.float64()),
        **dict.fromkeys(JUDGEMENTS, _KEYS),
    }
    kept = [name for name in COLUMNS if name in table.column_names]
    table = table.select(kept).replace_schema_metadata(None)
    for place, name in enumerate(kept):
        try:
            column = table.column(name).cast(types[name])
        except (pa.ArrowException, NotImplementedError) as error:
            raise ValueError(
                f"column {name!r} must be {types[name]}, found {table.schema.field(name).type}"
            ) from error
        table = table.set_column(place, name, column)
    return table


def _from_text(data: bytes) -> GroundTruth:
    there, lines = spreadsheet_rows(data, "the file")
    _check_columns(there)
    queries = []
    for number, cells in lines:
        row: dict[str, Any] = {"query": cells["query"].strip()}
        for name in JUDGEMENTS:
            keys = _SEPARATOR.split(cells.get(name, ""))
            row[name] = [key.strip() for key in keys if key.strip()]
        row["box"] = _numbers(cells.get("box", ""), f"line {number}")
        queries.append(_query(row, f"line {number}"))
    return GroundTruth(protocol="own", queries=tuple(queries))


def _check_columns(there: list[str]) -> None:
    unknown = [name for name in there if name not in COLUMNS]
    # A column of another name is a list that would be passed over in silence.
    if unknown:
        hint = suggestion(unknown[0], list(COLUMNS)) or f"; there are {', '.join(COLUMNS)}"
        raise ValueError(f"no column is called {unknown[0]!r}{hint}")
    twice = [name for name in there if there.count(name) > 1]
    if twice:
        raise ValueError(f"it has two columns {twice[0]!r}; keep one")
    graded = [name for name in ("easy", "hard") if name in there]
    if "query" not in there or not ("positives" in there or len(graded) == 2):
        raise ValueError(
            "expected the columns query and positives, or query, easy and hard; "
            f"found {', '.join(there) or 'none'}"
        )


def _numbers(text: str, where: str) -> list[float] | None:
    try:
        return [float(part) for part in text.replace(",", " ").split()] or None
    except ValueError as error:
        raise ValueError(f"{where}: box must be four numbers, got {text!r:.60}") from error


def _query(row: dict[str, Any], where: str) -> JudgedQuery:
    box, lists = row.get("box"), {name: row.get(name) or () for name in JUDGEMENTS}
    if not row["query"]:
        raise ValueError(f"{where} names no query")
    if box is not None and (len(box) != 4 or None in box):
        raise ValueError(f"{where}: box must be left, top, right, bottom; got {box!r:.60}")
    empty = [name for name, keys in lists.items() if any(not key for key in keys)]
    if empty:
        raise ValueError(f"{where}: {empty[0]} holds an image without a name")
    return JudgedQuery(
        key=row["query"],
        box=None if box is None else (box[0], box[1], box[2], box[3]),
        **{name: tuple(keys) for name, keys in lists.items()},
    )
