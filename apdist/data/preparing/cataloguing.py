"""Catalogue shards that others wrote, in place: passes over all shards, kept shard by shard."""

import hashlib
import io
import json
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.catalogue.catalogue import SCHEMA, Catalogue, write_catalogue
from apdist.data.preparing.encoding import each_as_done
from apdist.data.preparing.labels import number_labels
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.scanning import (
    ScanTask,
    ShardError,
    ShardRows,
    scan_shard,
)
from apdist.data.preparing.tally import Tally

PARTS = ".apdist-index"
PART_VERSION = 3


@dataclass
class Catalogued:
    """What cataloguing made, and what it passed over."""

    catalogue: Catalogue
    num_reused: int = 0
    """Shards that an earlier run had read."""
    num_problems: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)
    """Shards and samples that were passed over, and why."""
    tally: Tally = field(default_factory=Tally)
    """What belongs to no sample."""
    num_repeated_keys: int = 0
    """Keys that occur in several shards."""


def catalogue_shards(
    root: str,
    names: list[str],
    out: str,
    rules: Rules,
    *,
    skip: bool,
    num_processes: int,
    progress: Callable[[int, str], None] = lambda _done, _note: None,
) -> Catalogued:
    """Read the shards ``names`` under ``root`` once each and write their catalogue to ``out``.

    The rows of a finished shard are kept in a file under ``out``, and used again as long as the
    shard and ``rules`` are the same.

    Raises:
        ShardError: shards or samples cannot be used, and ``skip`` is false; all are named.
        ValueError: there is no image, or a class has two names.
    """
    tasks = [ScanTask(storage.join(root, name), name, rules) for name in names]
    for uri in [out, *(task.uri for task in tasks)]:
        if (seen := storage.shown(uri)) != uri:
            raise ValueError(
                f"{seen} has a signature or a password, which the catalogue would keep; index the "
                "shards by an address without one, or beside them before they are served"
            )
    known = set(storage.list_files(storage.join(out, PARTS)))
    rows: dict[int, ShardRows] = {}
    for number, task in enumerate(tasks):
        if _part_name(task) in known and (part := _read_part(out, task, skip=skip)):
            rows[number] = part
            progress(len(rows), "")
    result = Catalogued(Catalogue(out, SCHEMA.empty_table()), num_reused=len(rows))
    todo = [number for number in range(len(tasks)) if number not in rows]
    workers = min(num_processes, len(todo))
    for position, found in each_as_done([tasks[i] for i in todo], scan_shard, workers):
        number = todo[position]
        _write_part(out, tasks[number], found)
        rows[number] = found
        progress(len(rows), _note(rows.values()))
    in_order = [rows[number] for number in range(len(tasks))]
    result.num_problems = sum(part.num_problems for part in in_order)
    result.problems = [problem for part in in_order for problem in part.problems]
    for task, part in zip(tasks, in_order, strict=True):
        result.tally.update(part.tally, f"{task.name}: ")
    if result.num_problems and not skip:
        first, more = " ".join(result.problems[0]), result.num_problems - 1
        others = f" (and {more} more)" if more else ""
        raise ShardError(f"{first}{others}; mend it, or use --on-corrupt skip", result.problems)
    shards = [
        name if out == root else _absolute(task.uri)
        for name, task in zip(names, tasks, strict=True)
    ]
    result.catalogue, result.num_repeated_keys = _merge(result, shards, in_order)
    write_catalogue(result.catalogue)
    return result


def _note(parts: Collection[ShardRows]) -> str:
    num_images = sum(part.table.num_rows for part in parts)
    num_problems = sum(part.num_problems for part in parts)
    return f"{num_images} images" + (f", {num_problems} of no use" if num_problems else "")


def _absolute(uri: str) -> str:
    path = storage.local_path(uri)
    return uri if path is None else str(path.resolve())


def _merge(result: Catalogued, shards: list[str], parts: list[ShardRows]) -> tuple[Catalogue, int]:
    """All rows with labels as integers; also how many keys come again in another shard."""
    table = pa.concat_tables([part.table for part in parts])
    if not table.num_rows:
        first = "".join(f": {' '.join(problem)}" for problem in result.problems[:1])
        others = "".join(
            f"; {kind}: {number}, the first {name}"
            for kind, (number, name) in result.tally.kinds.items()
        )
        raise ValueError(
            f"none of the {len(parts)} shards holds an image that can be used{first}{others}"
        )
    numbers = number_labels(table["label"].unique().to_pylist())
    named = _class_names(table)
    counts = [part.table.num_rows for part in parts]
    labels = table["label"].combine_chunks().dictionary_encode()
    texts = labels.dictionary.to_pylist()
    codes = labels.indices
    columns = {
        "shard": _repeated(shards, counts),
        "key": table["key"],
        "source": _sources(shards, parts),
        "label": pa.array([numbers[t] for t in texts], pa.int64()).take(codes),
        "label_name": pa.DictionaryArray.from_arrays(codes, pa.array([named[t] for t in texts])),
        **{name: table[name] for name in SCHEMA.names[5:]},
    }
    merged = pa.table([columns[name] for name in SCHEMA.names], SCHEMA.names).cast(SCHEMA)
    versions = {
        shard: (part.version.size, part.version.etag)
        for shard, part in zip(shards, parts, strict=True)
    }
    num_repeated = len(table) - len(table["key"].unique())
    return Catalogue(result.catalogue.root, merged.combine_chunks(), versions), num_repeated


def _repeated(texts: list[str], counts: list[int]) -> pa.Array:
    codes = [i for i, count in enumerate(counts) for _ in range(count)]
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(texts))


def _sources(shards: list[str], parts: list[ShardRows]) -> pa.ChunkedArray:
    """Shard and key: together they are different for each image."""
    import pyarrow.compute as pc

    return pa.chunked_array(
        [
            pc.binary_join_element_wise(shard, part.table["key"].combine_chunks(), "/")
            for shard, part in zip(shards, parts, strict=True)
        ],
        pa.string(),
    )


def _class_names(table: pa.Table) -> dict[str, str]:
    """The name of each label."""
    names: dict[str, str] = {}
    for pair in (
        table.select(["label", "name"]).group_by(["label", "name"]).aggregate([]).to_pylist()
    ):
        label, name = pair["label"], pair["name"] or pair["label"]
        if names.setdefault(label, name) != name:
            raise ValueError(
                f"label {label!r} is named {names[label]!r} and {name!r}; --names must give the "
                "name of the class, not a caption of the image"
            )
    return names


def _part_name(task: ScanTask) -> str:
    return hashlib.sha256(task.uri.encode()).hexdigest()[:24] + ".parquet"


def _read_part(out: str, task: ScanTask, *, skip: bool) -> ShardRows | None:
    """The rows of an earlier pass, if shard and rules are the same."""
    data = storage.read_bytes(storage.join(storage.join(out, PARTS), _part_name(task)))
    try:
        table = pq.read_table(io.BytesIO(data))
        meta = read_json(table.schema.metadata[b"apdist"])
        same = meta["version"] == PART_VERSION and meta["rules"] == asdict(task.rules)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        return None  # damaged: read the shard again
    usable = not meta["num_problems"] or skip
    if not same or not usable or asdict(storage.version(task.uri)) != meta["shard"]:
        return None
    table = table.replace_schema_metadata(None)
    problems = [(where, reason) for where, reason in meta["problems"]]
    tally = Tally({kind: (number, first) for kind, (number, first) in meta["tally"].items()})
    return ShardRows(storage.Version(**meta["shard"]), table, problems, meta["num_problems"], tally)


def _write_part(out: str, task: ScanTask, rows: ShardRows) -> None:
    meta = {
        "version": PART_VERSION,
        "shard": asdict(rows.version),
        "rules": asdict(task.rules),
        "problems": rows.problems,
        "num_problems": rows.num_problems,
        "tally": rows.tally.kinds,
    }
    target = io.BytesIO()
    pq.write_table(rows.table.replace_schema_metadata({"apdist": json.dumps(meta)}), target)
    storage.write_bytes(storage.join(storage.join(out, PARTS), _part_name(task)), target.getvalue())
