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
        lines = io.StringIO(_text(path, what), newline="")  # lines end as they end in the file
    except OSError as error:
        raise ValueError(f"{what} cannot be read: {error}") from error
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
        raise ValueError(f"{what} cannot be read: {error}") from error
    return list(reader.fieldnames), _rows(reader, lines_before, what)


def _text(path: Path, what: str) -> str:
    data = path.read_bytes()
    try:
        return decoded(data)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{what} is not a text file in UTF-8 (see line {line}); save it as UTF-8"
        ) from error


def _rows(reader: "csv.DictReader[str]", lines_before: int, what: str) -> Rows:
    try:
        for row in reader:
            line = reader.line_num + lines_before  # blank lines count, as in an editor
            beyond = row.pop(None, ())
            if any(cell.strip() for cell in beyond):
                raise ValueError(
                    f"{what} line {line} has more cells than the header has columns; "
                    'a text with a comma needs quotes: "Rose, red"'
                )
            cells = {name: (value or "").strip() for name, value in row.items()}
            if any(cells.values()):
                yield line, cells
    except csv.Error as error:
        raise ValueError(f"{what} cannot be read: {error}") from error
