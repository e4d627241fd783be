"""Descriptor tables: read part by part, of one model, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apdist.retrieval.descriptor_tables import model_of, open_tables


def write(path: Path, rows: Any, model: str = "m1") -> None:
    """A table as `apdist extract` writes it."""
    rows = np.asarray(rows, "f4")
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    models = pa.array([model] * len(rows)).dictionary_encode()
    pq.write_table(pa.table({"model": models, "descriptor": values}), path)


def test_all_rows_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((9000, 5)).astype("f4")
    write(tmp_path / "b.parquet", rows[5000:])
    write(tmp_path / "a.parquet", rows[:5000])
    (tmp_path / "_contents.json").write_text("{}")
    tables = open_tables(str(tmp_path), width=5, model_id="m1")
    assert tables.num_rows == 9000
    parts = list(tables.parts())
    assert max(map(len, parts)) <= 4096
    assert (np.concatenate(parts) == rows).all()
    assert open_tables(str(tmp_path / "a.parquet"), width=5, model_id="m1").num_rows == 5000


def keyed(path: Path, keys: list[str], rows: Any) -> None:
    """A table with the keys of its images."""
    write(path, rows)
    table = pq.read_table(path)
    pq.write_table(table.append_column("key", [keys]), path)


def test_descriptors_are_found_by_key_across_files_and_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apdist.retrieval.descriptor_tables.IMAGES_PER_TILE", 3)
    rows = np.random.default_rng(0).standard_normal((16, 2)).astype("f4")
    keys = [f"i{row}" for row in range(16)]
    keyed(tmp_path / "a.parquet", keys[:9], rows[:9])
    keyed(tmp_path / "b.parquet", keys[9:], rows[9:])
    tables = open_tables(str(tmp_path), model_id="m1")
    wanted = [15, 0, 8, 9, 2, 3, 12]
    found = tables.rows_of([keys[row] for row in wanted])
    assert (found.numpy() == rows[wanted]).all()
    with pytest.raises(ValueError, match=r"2 of 3 images have no descriptor .* first is 'x'"):
        tables.rows_of(["x", "i4", "y"])
    assert tables.column("key").to_pylist() == keys
    with pytest.raises(ValueError, match="has no column 'source'; write it into the table"):
        tables.column("source")


def test_what_stands_beside_descriptors_comes_with_them(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((5, 2)).astype("f4")
    keyed(tmp_path / "a.parquet", list("abcde"), rows)
    [(found, others)] = open_tables(str(tmp_path), model_id="m1").described()
    assert (found == rows).all()
    assert others.to_pydict() == {"key": list("abcde")}
    with pytest.raises(ValueError, match="descriptors of model m1, not of m2"):
        list(open_tables(str(tmp_path), model_id="m2").described())


def test_the_model_is_that_of_the_first_row_there_is(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", np.ones((0, 2)))
    with pytest.raises(ValueError, match="holds tables without a row"):
        model_of(str(tmp_path))
    write(tmp_path / "b.parquet", np.ones((2, 2)), "m7")
    assert model_of(str(tmp_path)) == "m7"


def test_tables_of_another_size_or_kind_are_refused_when_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no .parquet file; write descriptors there"):
        open_tables(str(tmp_path), width=5, model_id="m1")
    write(tmp_path / "a.parquet", np.ones((2, 4)))
    with pytest.raises(ValueError, match="descriptors of 4 dimensions, the run's model gives 5"):
        open_tables(str(tmp_path), width=5, model_id="m1")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column 'descriptor', is no table of apdist ext"):
        open_tables(str(tmp_path), width=5, model_id="m1")
    pq.write_table(pa.table({"descriptor": [["1"]], "model": ["m1"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="lists of floats of one size, found list<"):
        open_tables(str(tmp_path), width=5, model_id="m1")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"a.parquet is no Parquet file or is damaged"):
        open_tables(str(tmp_path), width=5, model_id="m1")


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64())])
def test_lists_of_any_length_are_read_as_pandas_writes_them(
    tmp_path: Path, kind: pa.DataType
) -> None:
    rows = np.random.default_rng(0).standard_normal((5000, 3)).astype("f4")

    def write_lists(found: list[list[float] | None]) -> str:
        models = ["m1"] * len(found)
        table = pa.table({"descriptor": pa.array(found, kind), "model": models})
        pq.write_table(table, tmp_path / "a.parquet")
        return str(tmp_path)

    where = write_lists(rows.tolist())
    parts = list(open_tables(where, width=3, model_id="m1").parts())
    assert (np.concatenate(parts) == rows).all()
    with pytest.raises(ValueError, match="descriptors of 3 dimensions, the run's model gives 5"):
        open_tables(where, width=5, model_id="m1")
    assert open_tables(write_lists([]), width=3, model_id="m1").num_rows == 0
    where = write_lists([[1.0, 2.0], [3.0]])
    with pytest.raises(ValueError, match="descriptors of 2 and of 1 numbers; expected one size"):
        list(open_tables(where, model_id="m1").parts())
    where = write_lists([[1.0, 2.0], None])
    with pytest.raises(ValueError, match="a number is missing"):
        list(open_tables(where, model_id="m1").parts())


def test_descriptors_of_another_model_or_with_gaps_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", np.ones((2, 4)), "m2")
    with pytest.raises(ValueError, match="descriptors of model m2, not of m1"):
        list(open_tables(str(tmp_path), width=4, model_id="m1").parts())
    values = pa.array([[1.0, 2.0], [None, 1.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"descriptor": values, "model": ["m1"] * 2}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="a number is missing"):
        list(open_tables(str(tmp_path), width=2, model_id="m1").parts())
