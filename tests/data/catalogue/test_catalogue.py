import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apdist.data.catalogue.catalogue import (
    Catalogue,
    read_catalogue,
    write_catalogue,
)
from tests.data.catalogue.tables import SHARD_BYTES, rows, write


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 4), st.booleans(), st.integers(1, 70))
def test_a_split_read_from_a_file_is_that_of_the_table(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    num_splits: int,
    mixed: bool,
    row_group_size: int,
) -> None:
    table = rows(count, num_splits=num_splits, mixed=mixed)
    root = tmp_path_factory.mktemp("index")
    catalogue = read_catalogue(write(root, table, row_group_size=row_group_size))
    in_memory = Catalogue(str(root), table)
    assert catalogue.table.to_pylist() == table.to_pylist()
    assert catalogue.splits() == in_memory.splits()
    for split, number in catalogue.splits().items():
        part, expected = catalogue.select(split), in_memory.select(split)
        assert len(part) == number
        assert part.table.to_pylist() == expected.table.to_pylist()
        assert part.subset(np.array([0])).table.to_pylist() == expected.table[:1].to_pylist()
        again = part.subset(np.arange(len(part))[::2])
        assert again.labels.tolist() == expected.labels[::2].tolist()


def test_a_catalogue_without_images_is_read(tmp_path: Path) -> None:
    catalogue = read_catalogue(write(tmp_path, rows(0)))
    assert len(catalogue) == 0
    assert catalogue.labels.tolist() == []
    with pytest.raises(ValueError, match="it has no image"):
        catalogue.select("train")


def test_a_split_that_a_part_has_no_image_of_is_counted_as_none() -> None:
    part = Catalogue("root", rows(10, num_splits=2)).subset(np.arange(5))
    assert part.splits() == {"split 0": 5, "split 1": 0}
    with pytest.raises(ValueError, match=r"it has split 0 \(5 images\)$"):
        part.select("split 1")


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ([], "index.parquet does not exist; write shards first"),
        (["notes.txt"], "index.parquet does not exist; write shards first"),
        (["notes.txt", "train-000000.tar"], "holds shards but no index.parquet"),
        (["train-000000.tar.tmp"], "holds shards but no index.parquet"),
        (["dogs/1.jpg", "notes.txt"], "if .* holds pictures, prepare them"),
    ],
)
def test_where_no_catalogue_is_what_is_there_decides_what_to_do(
    tmp_path: Path, there: list[str], message: str
) -> None:
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        read_catalogue(str(tmp_path))


def test_a_file_in_place_of_the_folder_of_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.tar").touch()
    with pytest.raises(ValueError, match=r"train.tar is a file; shards lie in a folder: name that"):
        read_catalogue(str(tmp_path / "train.tar"))


def damaged_anywhere(data: bytes) -> list[bytes]:
    random = np.random.default_rng(0)
    cut = [data[:size] for size in random.integers(0, len(data), 30).tolist()]
    flipped = []
    for place in random.integers(0, len(data), 150).tolist():
        copy = bytearray(data)
        copy[place] ^= 1 << int(random.integers(8))
        flipped.append(bytes(copy))
    return [*cut, *flipped, data + b"more", b"PAR1", b""]


def test_a_damaged_file_gives_its_rows_or_a_one_line_error(tmp_path: Path) -> None:
    table = rows(200)
    path = Path(write(tmp_path, table)) / "index.parquet"
    outcomes = []
    for data in damaged_anywhere(path.read_bytes()):
        path.write_bytes(data)
        outcomes.append(outcome(tmp_path, table))
    assert set(outcomes) == {"same", "refused"}
    assert outcomes.count("refused") > 60


def outcome(root: Path, table: pa.Table) -> str:
    try:
        read = read_catalogue(str(root)).table
    except ValueError as error:
        in_one_line = str(root) in str(error) and "again" in str(error) and "\n" not in str(error)
        return "refused" if in_one_line else f"refused without reason: {error}"
    # Numbers of statistics and unused names of the footer may differ without harm.
    return "same" if read.to_pylist() == table.to_pylist() else "differs"


def test_a_file_that_is_replaced_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    catalogue = read_catalogue(write(tmp_path, rows(100)))
    write_catalogue(Catalogue(str(tmp_path), rows(40), {"000.tar": (SHARD_BYTES, "")}))
    assert catalogue.table.to_pylist() == rows(100).to_pylist()
    assert len(read_catalogue(str(tmp_path))) == 40


def test_the_fingerprint_tells_labels_contents_and_their_order_apart(shards: Path) -> None:
    catalogue = read_catalogue(str(shards))
    table = catalogue.table
    known = {catalogue.fingerprint()}
    assert dataclasses.replace(catalogue, columns=table).fingerprint() in known
    for name in ("label", "crc32"):
        values = table[name].to_numpy().copy()
        values[[0, -1]] = values[[-1, 0]]
        place = table.schema.get_field_index(name)
        changed = table.set_column(place, table.schema.field(name), pa.array(values))
        found = dataclasses.replace(catalogue, columns=changed).fingerprint()
        assert found not in known
        known.add(found)


@pytest.mark.parametrize("size", [1 << 63, -1, 1e400, "much", None])
def test_a_shard_of_an_impossible_size_is_damage(tmp_path: Path, size: object) -> None:
    table = rows(3)
    shards = dict.fromkeys(table["shard"].unique().to_pylist(), (size, ""))
    with pytest.raises(ValueError, match="no catalogue of apdist or is damaged; prepare it again"):
        read_catalogue(write(tmp_path, table, shards=shards))
