"""A person's pictures as shards in a cache: prepared once, and again when they have changed."""

import dataclasses
import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from pyarrow.parquet import read_schema, read_table

from apdist.config import Config
from apdist.data.catalogue.catalogue import CATALOGUE_NAME
from apdist.data.preparing.folder import ARCHIVE, scan_folder
from apdist.data.preparing.tables.csv_tables import read_csv
from apdist.data.preparing.tables.tables import Columns, Table
from apdist.data.storage.local import path_hint
from apdist.data.storage.locks import locked
from apdist_verbs.prepare.folder import Choices, PrepareFolder, prepare_folder
from apdist_verbs.prepare.table import (
    Listed,
    PrepareCsv,
    PrepareParquet,
    TableColumns,
    prepare_csv,
    prepare_parquet,
)
from apdist_verbs.start.checks import refuse_unwritable
from apdist_verbs.start.start import Options
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.progress import phase

CACHE = "APDIST_CACHE"
"""Environment variable that names the folder of the cache."""
TABLES = (".csv", ".tsv", ".parquet")


def with_images(options: Options, config: Config, before: Callable[[], object]) -> Config:
    """``config``, on the shards of the pictures where some are named.

    Args:
        options: name the pictures, and say how they are prepared.
        config: of the training.
        before: called once there are pictures, before they are prepared.

    Raises:
        ValueError: shards are named too, there are no pictures, or some cannot be used.
    """
    if not options.images:
        refuse_unused(options)
        return config
    data = dataclasses.replace(config.data, shards=shards_of(options, before))
    return dataclasses.replace(config, data=data)


def refuse_unused(options: Options) -> None:
    """Refuse options that say how pictures are prepared, where none are.

    Raises:
        ValueError: one is given.
    """
    unset = Options()
    for given in (*dataclasses.fields(Choices), *dataclasses.fields(TableColumns)):
        if getattr(options, given.name) != getattr(unset, given.name):
            name = given.name.replace("_", "-")
            raise ValueError(
                f"--{name} says how pictures are prepared, and none are given; expected "
                f"`apdist train PRESET IMAGES --{name} ...`, or `apdist prepare` before"
            )


def shards_of(options: Options, before: Callable[[], object] = lambda: None) -> str:
    """The folder with the shards of ``options.images``, prepared if it is not there.

    ``before`` is called once there are pictures, before they are prepared.

    Raises:
        ValueError: there are no pictures, or some cannot be used.
    """
    images = Path(os.path.abspath(options.images))
    table = table_of(images)
    with phase("looking for pictures"):
        content = _fingerprint(images, table, options)
    root = cache_root()
    refuse_unwritable(CACHE, root)
    root.mkdir(parents=True, exist_ok=True)
    place = hashlib.sha256(os.fsencode(images)).hexdigest()[:8]
    shards = root / f"{images.name[:60]}-{place}-{content}"
    with locked(root / f".{shards.name}.lock"):
        if (shards / CATALOGUE_NAME).exists():
            say(f"{images} has not changed since it was prepared into {shards}")
            return str(shards)
        before()
        older = [path for path in root.glob(f"*-{place}-*") if path.is_dir() and path != shards]
        changed = " again: files or options have changed" if older else ""
        say(f"preparing {table or images} into {shards}{changed}")
        shutil.rmtree(shards, ignore_errors=True)  # of a process that was killed
        _prepare(images, table, options, shards)
    return str(shards)


def cache_root() -> Path:
    """Where prepared pictures are kept."""
    if named := os.environ.get(CACHE):
        return Path(os.path.abspath(named))
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base, "apdist")


def table_of(images: Path) -> Path | None:
    """The list of the pictures, if there is one: ``images`` itself, or the one in that folder.

    In a folder of classes a list is one more file; it counts where the pictures lie flat, or in a
    single folder.

    Raises:
        ValueError: nothing is there, or there are several lists.
    """
    if images.is_file():
        if images.name == CATALOGUE_NAME:
            raise _are_shards(images, images.parent)
        if ARCHIVE.fullmatch(images.name):
            raise ValueError(f"{images} is an archive; unpack it, and give the folder")
        if images.suffix.lower() not in TABLES:
            raise ValueError(
                f"{images} is neither a folder of pictures nor a list of them "
                f"({', '.join(TABLES)}); expected IMAGES/<class>/<image>"
            )
        return images
    if not images.is_dir():
        raise ValueError(
            f"{images} does not exist{path_hint(images)}; expected a folder, IMAGES/<class>/<image>"
        )
    if (images / CATALOGUE_NAME).exists():
        raise _are_shards(images, images)
    entries = [entry for entry in images.iterdir() if not entry.name.startswith(".")]
    tables = sorted(entry for entry in entries if entry.suffix.lower() in TABLES)
    if not tables or sum(entry.is_dir() for entry in entries) > 1:
        return None
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables[:5])
        raise ValueError(
            f"{images} holds {len(tables)} lists ({names}) and no class folders; give the one to "
            f"use: {tables[0]}"
        )
    return tables[0]


def _are_shards(images: Path, shards: Path) -> ValueError:
    return ValueError(
        f"{images} is no folder of pictures but one of shards, which are prepared already; give it "
        f"as --data.shards {shlex.quote(str(shards))}"
    )


def _prepare(images: Path, table: Path | None, options: Options, shards: Path) -> None:
    chosen = {f.name: getattr(options, f.name) for f in dataclasses.fields(Choices)}
    if table is None:
        prepare_folder(PrepareFolder(images=images, out=str(shards), **chosen))
        return
    chosen |= {f.name: getattr(options, f.name) for f in dataclasses.fields(TableColumns)}
    kind: type[Listed] = PrepareParquet if table.suffix.lower() == ".parquet" else PrepareCsv
    listed = kind(tables=(table,), out=str(shards), **chosen)
    if isinstance(listed, PrepareParquet):
        prepare_parquet(listed)
    elif isinstance(listed, PrepareCsv):
        prepare_csv(listed)


def _fingerprint(images: Path, table: Path | None, options: Options) -> str:
    """Hash of the options and of name, size and time of every file that could be used."""
    chosen = (*dataclasses.fields(Choices), *dataclasses.fields(TableColumns))
    found = hashlib.sha256(
        json.dumps({f.name: str(getattr(options, f.name)) for f in chosen}).encode()
    )
    for path in sorted(_files(images, table, options)):
        try:
            there = os.stat(path)
            size, time_ns = there.st_size, there.st_mtime_ns
        except OSError:  # a link to nothing: refused when it is read
            size, time_ns = -1, 0
        found.update(os.fsencode(path) + f"\0{size}\0{time_ns}\0".encode())
    return found.hexdigest()[:12]


def _files(images: Path, table: Path | None, options: Options) -> Iterator[str]:
    """The pictures, and the files that say what they are."""
    if options.split_file != Path():
        yield str(options.split_file)
    if table is None:
        for pictures in scan_folder(images).files.values():
            yield from pictures.values()
        return
    yield str(table)
    yield from _listed(table, options)


def _listed(table: Path, options: Options) -> Iterator[str]:
    """The files that a table names."""
    root = table.parent if options.root == Path() else options.root
    if table.suffix.lower() != ".parquet":
        columns = Columns(
            path=options.path_column, label=options.label_column, split=options.split_column
        )
        yield from (row.stored.path for row in read_csv(Table(table, root), columns))
    elif options.path_column in read_schema(table).names:
        paths = read_table(table, columns=[options.path_column])[options.path_column]
        yield from (os.path.join(root, str(path)) for path in paths.to_pylist())
