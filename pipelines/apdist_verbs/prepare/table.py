"""``apdist prepare csv|parquet``: pictures that tables list, or hold."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from apdist.data.preparing.tally import Tally
from apdist_verbs.prepare.folder import Pictures, refuse_share, splits_of
from apdist_verbs.prepare.write import write
from apdist_verbs.terminal.console import counted, warn
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.data.preparing.tables.tables import Row, Table


@dataclass(frozen=True, kw_only=True)
class TableColumns:
    """Where a table says what."""

    root: Annotated[Path, shown_default("the table's folder")] = Path()
    """Folder that paths in the table start from."""
    path_column: str = "path"
    """Column with the path of the image's file."""
    label_column: str = "label"
    """Column with the class, a text or a whole number."""
    split_column: str = "split"
    """Column with the split; used instead of --split-by-class where a table has it."""


@dataclass(frozen=True, kw_only=True)
class Listed(Pictures, TableColumns):
    """Where a table says which pictures there are."""

    tables: Annotated[tuple[Path, ...], positional("TABLE")]
    """One or more tables."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known: set[Path] = set()
        for table in self.tables:
            if table.resolve() in known:
                raise ValueError(f"TABLE {table} is named twice; its images would be there twice")
            known.add(table.resolve())


@dataclass(frozen=True, kw_only=True)
class PrepareCsv(Listed):
    """Write shards of the pictures that .csv or .tsv files list: columns path, label, split."""


@dataclass(frozen=True, kw_only=True)
class PrepareParquet(Listed):
    """Write shards of the pictures that .parquet files list or hold."""

    image_column: str = "image"
    """Column with encoded images: bytes, or a struct of bytes and path as Hugging Face writes."""


def prepare_csv(options: PrepareCsv) -> int:
    """Write what .csv files list."""
    from apdist.data.preparing.tables.csv_tables import read_csv
    from apdist.data.preparing.tables.tables import Columns

    columns = Columns(
        path=options.path_column, label=options.label_column, split=options.split_column
    )
    tally = Tally()
    with phase("reading the tables"):
        rows = [row for table in tables(options, tally) for row in read_csv(table, columns)]
    write_rows(rows, options, tally)
    return 0


def prepare_parquet(options: PrepareParquet) -> int:
    """Write what .parquet files list or hold."""
    import tempfile

    from apdist.data.preparing.tables.parquet_tables import read_parquet
    from apdist.data.preparing.tables.tables import Columns

    columns = Columns(
        path=options.path_column,
        label=options.label_column,
        split=options.split_column,
        image=options.image_column,
    )
    tally = Tally()
    with tempfile.NamedTemporaryFile(prefix="apdist-images-") as spool:
        with phase("reading the tables"):
            rows = [
                row
                for table in tables(options, tally)
                for row in read_parquet(table, columns, spool.file)
            ]
            spool.flush()
        if options.root != Path() and all(row.stored.path == spool.name for row in rows):
            raise ValueError(
                f"--root {options.root} is where paths start, and the images are in the tables "
                f"(column {options.image_column!r}); leave it out"
            )
        write_rows(rows, options, tally)
    return 0


def tables(options: Listed, tally: Tally) -> list["Table"]:
    """The tables, which count in ``tally``."""
    from apdist.data.preparing.tables.tables import Table, table_names

    return [
        Table(path, root_of(path, options), options.max_side, name, tally)
        for path, name in zip(options.tables, table_names(options.tables), strict=True)
    ]


def root_of(table: Path, options: Listed) -> Path:
    """The folder that paths in ``table`` start from."""
    return table.parent if options.root == Path() else options.root


def write_rows(rows: list["Row"], options: Listed, tally: Tally) -> None:
    """Write the rows of tables."""
    from apdist.data.preparing.folder import encode_file
    from apdist.data.preparing.tables.tables import table_classes, table_items

    if not rows:
        raise ValueError(f"{options.tables[0]} has no row; expected one for each image")
    has_splits, column = [bool(row.split) for row in rows], options.split_column
    if all(has_splits) and options.split_file == Path():
        refuse_share(options, f"the splits are in the column {column!r}")
        splits = {row.source: row.split for row in rows}
    else:
        if any(has_splits):
            way = "--split-file" if options.split_file != Path() else "--split-by-class"
            number = f"{sum(has_splits)} of {counted(len(rows), 'row')}"
            warn(f"the column {column!r}, of {number}, is not used: {way} splits them all")
        splits = splits_of(table_classes(rows), options)
    items = table_items(rows, splits)
    write(items, encode_file, options, is_strict=options.is_strict, tally=tally)
