"""Columns that are read on demand."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from apdist.data.catalogue.catalogue import (
    Catalogue,
    codes_and_names,
    read_catalogue,
)
from apdist.data.catalogue.columns import StoredColumns
from tests.data.catalogue.tables import rows, write


def test_only_the_columns_that_are_asked_for_are_read(tmp_path: Path) -> None:
    catalogue = read_catalogue(write(tmp_path, rows(100, num_splits=2)))
    part = catalogue.select("split 1")
    assert part.labels.tolist() == [n // 5 for n in range(50, 100)]
    assert isinstance(part.columns, StoredColumns)
    assert set(part.columns._known) == {"label"}


def test_no_data_frames_are_loaded_to_look_at_a_catalogue(tmp_path: Path) -> None:
    # A quarter of a second, in which a mistake on the command line could have been refused.
    root = write(tmp_path, rows(100, num_splits=2, mixed=True))
    code = (
        "import sys\n"
        "from apdist.data.catalogue.catalogue import read_catalogue\n"
        f"part = read_catalogue({root!r}).select('split 1')\n"
        "assert part.labels[-1] == 19, part.labels\n"
        "sys.exit('pandas' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_image_without_a_name_is_refused_in_words() -> None:
    column = pa.chunked_array([pa.array(["a", None, "b"]).dictionary_encode()])
    with pytest.raises(ValueError, match="1 images of the catalogue lack a name"):
        codes_and_names(column)


def test_neighbours_are_selected_without_a_copy() -> None:
    table = rows(100, num_splits=2)
    part = Catalogue("", table).select("split 1")
    bytes_of = [t["key"].chunk(0).buffers()[2].address for t in (table, part.table)]
    assert bytes_of[0] == bytes_of[1]
