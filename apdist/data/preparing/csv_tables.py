"""Lists of images in .csv and .tsv files, as spreadsheets write them."""

import csv
import io
import re
from collections.abc import Iterator

from apdist.data.preparing.tables import Columns, Row, Table, require_columns
from apdist.data.text import decoded


def read_csv(table: Table, columns: Columns) -> list[Row]:
    """The rows of a .csv or .tsv file with a header.

    Raises:
        ValueError: the file cannot be read, lacks a column, or has a row that cannot be used.
    """
    table.unit, data = "line", b""
    found = []
    try:
        data = table.path.read_bytes()
        for number, text in _csv_rows(decoded(data), table, columns):
            label = table.label(number, text[columns.label])
            split = table.split(number, text[columns.split]) if columns.split in text else ""
            path = text[columns.path]
            stored = table.file(number, path)
            found.append(Row(table.where(number), path, label, label, split, stored))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{table.path} is not a text file in UTF-8 (see line {line}); save it as UTF-8"
        ) from error
    except (OSError, csv.Error) as error:
        raise ValueError(f"{table.path} cannot be read: {error}") from error
    return found


def _csv_rows(text: str, table: Table, columns: Columns) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells of each row that is not empty; columns without a name are not used."""
    lines = io.StringIO(text, newline="")
    first = lines.readline()
    skipped = int(re.fullmatch(r"sep=.\s*", first, re.IGNORECASE) is not None)  # Excel's own line
    delimiter = first.strip()[-1] if skipped else max(",\t;", key=first.count)
    lines.seek(len(first) if skipped else 0)
    rows = csv.DictReader(lines, delimiter=delimiter, strict=True)
    there = rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
    require_columns(table.path, there, ("path", columns.path), ("label", columns.label))
    for name in (columns.path, columns.label, columns.split):
        if there.count(name) > 1:
            raise ValueError(f"{table.path} has two columns {name!r}; keep one")
    for row in rows:
        number = rows.line_num + skipped  # blank lines count, as in an editor
        if any(cell.strip() for cell in row.pop(None, ())):
            raise ValueError(
                f"{table.where(number)} has more cells than the header has columns; "
                'a text with a comma needs quotes: "Rose, red"'
            )
        cells = {name: (value or "").strip() for name, value in row.items()}
        if any(cells.values()):
            yield number, cells
