"""Lists of images in .csv and .tsv files."""

from apdist.data.preparing.tables.spreadsheets import read_spreadsheet
from apdist.data.preparing.tables.tables import Columns, Row, Table, require_columns


def read_csv(table: Table, columns: Columns) -> list[Row]:
    """The rows of a .csv or .tsv file with a header; columns without a name are not used.

    Raises:
        ValueError: the file cannot be read, lacks a column, or has a row that cannot be used.
    """
    table.unit = "line"
    there, rows = read_spreadsheet(table.path, str(table.path))
    require_columns(table.path, there, ("path", columns.path), ("label", columns.label))
    for name in (columns.path, columns.label, columns.split):
        if there.count(name) > 1:
            raise ValueError(f"{table.path} has two columns {name!r}; keep one")
    found = []
    for number, text in rows:
        path = text[columns.path].strip()
        label = table.label(number, text[columns.label])
        split = table.split(number, text[columns.split].strip()) if columns.split in there else ""
        stored = table.file(number, path)
        found.append(Row(table.where(number), path, label, label, split, stored))
    return found
