"""Descriptors of `apdist extract` in LanceDB, a database of vectors that is a folder.

pip install lancedb
apdist extract --run runs/mine --out tables
python examples/search_in_lancedb.py tables [KEY]      the images most like that of the key
"""

# %% The tables: rows of one model, vectors of one size, of unit length
import sys
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

NUM_RESULTS, SMALLEST_INDEXED = 5, 10_000


def rows_of(tables: Path) -> pa.Table:
    """All rows, checked: descriptors of two models cannot be compared."""
    rows = pq.read_table(sorted(tables.glob("*.parquet")))
    models = rows["model"].unique().to_pylist()
    if len(models) != 1:
        raise SystemExit(f"{tables} has descriptors of {len(models)} models: {models}")
    return rows.cast(plain(rows.schema))


def plain(schema: pa.Schema) -> pa.Schema:
    """Texts as texts, where Parquet has them in dictionaries."""
    is_coded = pa.types.is_dictionary
    fields = [f.with_type(pa.string()) if is_coded(f.type) else f for f in schema]
    return pa.schema(fields, schema.metadata)


# %% A table of the database; searching by the column that says which class is asked for
def store(rows: pa.Table, folder: Path) -> Any:
    """A table named after the model, so that another model's never gets into it."""
    name = rows["model"][0].as_py()
    table = lancedb.connect(folder).create_table(name, rows, mode="overwrite")
    if len(rows) >= SMALLEST_INDEXED:  # below, reading all of them is fast and exact
        table.create_index("dot", vector_column_name="descriptor")
    return table


def nearest(table: Any, query: NDArray[np.float32], where: str = "") -> list[dict[str, Any]]:
    """Rows most like the ``query`` (d,), best first, among those for which ``where`` holds."""
    search = table.search(query, vector_column_name="descriptor").distance_type("dot")
    found: list[dict[str, Any]] = (
        (search.where(where) if where else search).limit(NUM_RESULTS).to_list()
    )
    return found


def main(tables: Path, key: str = "") -> None:
    """Store the tables beside themselves and search."""
    rows = rows_of(tables)
    table = store(rows, tables / "lancedb")
    place = rows["key"].to_pylist().index(key) if key else 0
    query = np.array(rows["descriptor"][place].as_py(), np.float32)
    print(f"{len(rows)} images of model {rows['model'][0]}; like {rows['source'][place]}:")
    for row in nearest(table, query):
        # LanceDB's distance of inner products is 1 less the product.
        print(f"{1 - row['_distance']:.4f}  {row['label_name']}  {row['source']}  {row['key']}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
