"""Text as spreadsheets write it: encodings, separators, lines."""

from pathlib import Path

import pytest

from apdist.data.preparing.tables.csv_tables import read_csv
from apdist.data.preparing.tables.tables import (
    Columns,
    Table,
)
from tests.pictures import write_folder

WRITTEN = {
    "columns without a name": "path,label,,\na/0.png,x,,\na/1.png,y,,\n",
    "cells beyond the header": "path,label\na/0.png,x,,\na/1.png,y,,\n",
    "empty rows at the end": "path,label\na/0.png,x\na/1.png,y\n,\n,\n",
    "an empty row between": "path,label\na/0.png,x\n,\na/1.png,y\n",
    "empty lines before the header": "\n,,\npath,label\na/0.png,x\na/1.png,y\n",
    "Excel's separator": "sep=;\npath;label\na/0.png;x\na/1.png;y\n",
    "old ends of lines": "path,label\ra/0.png,x\ra/1.png,y\r",
    "Windows' ends of lines": "path,label\r\na/0.png,x\r\na/1.png,y\r\n",
    "an index of pandas": ",path,label\n0,a/0.png,x\n1,a/1.png,y\n",
    "spaces": " path , label\n a/0.png , x\n a/1.png , y\n",
    "everything in quotes": '"path","label"\n"a/0.png","x"\n"a/1.png","y"\n',
    "a note of two lines": 'path,label,note\na/0.png,x,"two\nlines"\na/1.png,y,\n',
    "two other columns of one name": "path,label,note,note\na/0.png,x,1,2\na/1.png,y,3,4\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("case", WRITTEN)
def test_tables_are_read_as_spreadsheets_write_them(
    tmp_path: Path, case: str, encoding: str
) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "t.csv").write_bytes(WRITTEN[case].encode(encoding))
    rows = read_csv(Table(tmp_path / "t.csv", tmp_path), Columns())
    assert [(row.source, row.label) for row in rows] == [("a/0.png", "x"), ("a/1.png", "y")]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("path,label\r\na/0.png,x\r\na/9.png,x\r\n", 3),
        ("path,label\ra/0.png,x\ra/9.png,x\r", 3),
        ("sep=,\npath,label\na/9.png,x\n", 3),
        ("\n\npath,label\n\na/9.png,x\n", 5),
        ('path,label\na/0.png,"a\nb"\na/9.png,x\n', 4),
    ],
)
def test_the_line_of_a_message_is_that_of_an_editor(tmp_path: Path, text: str, line: int) -> None:
    write_folder(tmp_path, {"a": 2})
    (tmp_path / "t.csv").write_bytes(text.encode())
    with pytest.raises(ValueError, match=f"t.csv line {line}: .*9.png does not exist"):
        read_csv(Table(tmp_path / "t.csv", tmp_path), Columns())


def test_text_in_another_encoding_is_refused_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path,label\na,b\ncafé,x\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"in UTF-8 \(see line 3\); save it as UTF-8"):
        read_csv(Table(tmp_path / "t.csv", tmp_path), Columns())
