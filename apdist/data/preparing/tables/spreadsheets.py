"""Rows of .csv and .tsv files as spreadsheets write them."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from apdist.data.text import decoded

SETTING = re.compile(r"sep=(.)\s*", re.IGNORECASE)
"""A first line that Excel writes and hides."""
EMPTY = re.compile(r"[,;\t\s]*")
BINARY = {
    b"PK\x03\x04": "a spreadsheet's own file or a zip",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"PAR1": "a Parquet file",
    b"\x1f\x8b": "compressed with gzip",
}
"""First bytes of what people take for a .csv file."""
Rows = Iterator[tuple[int, dict[str, str]]]


def read_spreadsheet(path: Path, what: str) -> tuple[list[str], Rows]:
    """Names of the columns, and of each row that is not empty its line and its cells.

    Args:
        path: a text file with commas, semicolons or tabs; with or without a byte order mark.
        what: the file in messages.

    Raises:
        ValueError: it cannot be read; also while the rows are taken.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(f"{what} cannot be read ({reason}); give a .csv or .tsv file") from error
    return spreadsheet_rows(data, what)


def spreadsheet_rows(data: bytes, what: str) -> tuple[list[str], Rows]:
    """`read_spreadsheet` of the bytes of a file."""
    lines = io.StringIO(_text(data, what), newline="")  # lines end as they end in the file
    setting, lines_before, start, first = None, 0, 0, lines.readline()
    while first and (EMPTY.fullmatch(first) or SETTING.fullmatch(first)):
        setting = setting or SETTING.fullmatch(first)
        lines_before, start, first = lines_before + 1, lines.tell(), lines.readline()
    delimiter = setting[1] if setting else max(",\t;", key=first.count)
    lines.seek(start)
    reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    except csv.Error as error:
        raise _fault(what, lines_before + 1, error) from error
    return list(reader.fieldnames), _rows(reader, lines_before, what)


def _text(data: bytes, what: str) -> str:
    for mark, kind in BINARY.items():
        if data.startswith(mark):
            raise ValueError(f"{what} is {kind}, not a text with commas; save it as CSV in UTF-8")
    try:
        return decoded(data)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{what} is not a text file in UTF-8 (see line {line}); save it as UTF-8"
        ) from error


def _rows(reader: "csv.DictReader[str]", lines_before: int, what: str) -> Rows:
    begin = lines_before + 2
    try:
        for row in reader:
            begin = reader.line_num + lines_before + 1  # of the next row
            line = reader.line_num + lines_before  # blank lines count, as in an editor
            beyond = row.pop(None, ())
            if any(cell.strip() for cell in beyond):
                raise ValueError(
                    f"{what} line {line} has more cells than the header has columns; "
                    'a text with a comma needs quotes: "Rose, red"'
                )
            cells = {name: value or "" for name, value in row.items()}
            if any(cell.strip() for cell in cells.values()):
                yield line, cells
    except csv.Error as error:
        raise _fault(what, begin, error) from error


def _fault(what: str, line: int, error: csv.Error) -> ValueError:
    return ValueError(
        f"{what} cannot be read: the row that begins in line {line} breaks the rules of quotes "
        f"({error}); end each quoted text with a quote, and write a quote inside it twice"
    )
