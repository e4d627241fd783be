"""Catalogue shards that others wrote, in place: a pass over each, kept shard by shard."""

import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import product

import pyarrow as pa
import pyarrow.parquet as pq

from apdist.data import storage
from apdist.data.catalogue.catalogue import SCHEMA, Catalogue, write_catalogue
from apdist.data.preparing.encoding import each_as_done
from apdist.data.preparing.labels import number_labels
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.scanning import ScanTask, ShardRows, scan_shard

PARTS = ".apdist-index"
PART_VERSION = 1
MOST_NAMES = 1_000_000
"""Shards that one pattern may spell out: more is a slip of the keyboard."""


@dataclass
class Catalogued:
    """What cataloguing made, and what it passed over."""

    catalogue: Catalogue
    num_reused: int = 0
    """Shards that an earlier run had read."""
    num_problems: int = 0
    problems: list[str] = field(default_factory=list)
    num_repeated_keys: int = 0
    """Keys that occur in several shards."""


def find_shards(root: str, patterns: tuple[str, ...] = ()) -> list[str]:
    """Names of the shards under ``root``, or those that ``patterns`` with braces spell out.

    Raises:
        ValueError: there is none, or the same one twice.
    """
    if patterns:
        names = [name for pattern in patterns for name in expand_braces(pattern)]
    else:
        names = sorted(_tars_below(root, ""))
    if not names:
        raise ValueError(f"no .tar file lies under {root}; check the path, or name them: --shards")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"--shards names {twice!r} twice")
    return names


def expand_braces(pattern: str) -> list[str]:
    """``a-{000..002}.tar`` and ``{a,b}.tar`` spelled out.

    Raises:
        ValueError: a brace is open, or holds neither a range nor a list.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    if any("{" in text or "}" in text for text in parts[::2]):
        raise ValueError(f"--shards {pattern!r} has a brace without its other half")
    choices = [[part] if i % 2 == 0 else _choices(part, pattern) for i, part in enumerate(parts)]
    if math.prod(map(len, choices)) > MOST_NAMES:
        raise _too_many(pattern)
    return ["".join(choice) for choice in product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    if match := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        if int(match[2]) < int(match[1]):
            raise ValueError(f"--shards {pattern!r}: the range {{{inside}}} runs backwards")
        if int(match[2]) - int(match[1]) >= MOST_NAMES:
            raise _too_many(pattern)
        width = len(match[1]) if match[1].startswith("0") else 0
        return [f"{n:0{width}d}" for n in range(int(match[1]), int(match[2]) + 1)]
    if "," not in inside:
        raise ValueError(
            f"--shards {pattern!r}: expected {{000..031}} or {{a,b}}, got {{{inside}}}"
        )
    return inside.split(",")


def _too_many(pattern: str) -> ValueError:
    return ValueError(f"--shards {pattern!r} spells out more than {MOST_NAMES} names")


def _tars_below(root: str, below: str) -> Iterator[str]:
    here = storage.join(root, below) if below else root
    yield from (below + name for name in storage.list_files(here, ".tar"))
    for folder in storage.list_folders(here):
        if not folder.startswith("."):
            yield from _tars_below(root, f"{below}{folder}/")


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
        ShardError: a shard or sample cannot be used, and ``skip`` is false.
        ValueError: there is no image, or a class has two names.
    """
    tasks = [ScanTask(storage.join(root, name), name, rules, skip) for name in names]
    known = set(storage.list_files(storage.join(out, PARTS)))
    rows: dict[int, ShardRows] = {}
    for number, task in enumerate(tasks):
        if _part_name(task) in known and (part := _read_part(out, task)):
            rows[number] = part
            progress(len(rows), "")
    result = Catalogued(Catalogue(out, SCHEMA.empty_table()), num_reused=len(rows))
    todo = [number for number in range(len(tasks)) if number not in rows]
    workers = min(num_processes, len(todo))
    for position, found in each_as_done([tasks[i] for i in todo], scan_shard, workers):
        number = todo[position]
        _write_part(out, tasks[number], found)
        rows[number] = found
        progress(len(rows), f"{sum(part.table.num_rows for part in rows.values())} images")
    in_order = [rows[number] for number in range(len(tasks))]
    result.num_problems = sum(part.num_problems for part in in_order)
    result.problems = [text for part in in_order for text in part.problems]
    shards = [
        name if out == root else _absolute(task.uri)
        for name, task in zip(names, tasks, strict=True)
    ]
    result.catalogue, result.num_repeated_keys = _merge(out, shards, in_order)
    write_catalogue(result.catalogue)
    return result


def _absolute(uri: str) -> str:
    path = storage.local_path(uri)
    return uri if path is None else str(path.resolve())


def _merge(out: str, shards: list[str], parts: list[ShardRows]) -> tuple[Catalogue, int]:
    """All rows with labels as integers; also how many keys come again in another shard."""
    table = pa.concat_tables([part.table for part in parts])
    if not table.num_rows:
        first = next((f": {part.problems[0]}" for part in parts if part.problems), "")
        raise ValueError(f"none of the {len(parts)} shards holds an image that can be used{first}")
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
    return Catalogue(out, merged.combine_chunks(), versions), num_repeated


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


def _read_part(out: str, task: ScanTask) -> ShardRows | None:
    """The rows of an earlier pass, if shard and rules are the same."""
    data = storage.read_bytes(storage.join(storage.join(out, PARTS), _part_name(task)))
    try:
        table = pq.read_table(io.BytesIO(data))
        meta = json.loads(table.schema.metadata[b"apdist"])
    except (pa.ArrowException, KeyError, TypeError, ValueError):
        return None  # damaged: read the shard again
    same = meta["version"] == PART_VERSION and meta["rules"] == asdict(task.rules)
    usable = not meta["num_problems"] or task.skip
    if not same or not usable or asdict(storage.version(task.uri)) != meta["shard"]:
        return None
    table = table.replace_schema_metadata(None)
    return ShardRows(
        storage.Version(**meta["shard"]), table, meta["problems"], meta["num_problems"]
    )


def _write_part(out: str, task: ScanTask, rows: ShardRows) -> None:
    meta = {
        "version": PART_VERSION,
        "shard": asdict(rows.version),
        "rules": asdict(task.rules),
        "problems": rows.problems,
        "num_problems": rows.num_problems,
    }
    target = io.BytesIO()
    pq.write_table(rows.table.replace_schema_metadata({"apdist": json.dumps(meta)}), target)
    storage.write_bytes(storage.join(storage.join(out, PARTS), _part_name(task)), target.getvalue())
