"""One streaming pass over a shard that others wrote: a row for each of its images."""

import zlib
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from apdist.data import storage
from apdist.data.images import ImageError, image_size
from apdist.data.preparing.encoding import check_stopped
from apdist.data.preparing.samples import (
    Rules,
    Sample,
    SampleError,
    image_of,
    is_wanted,
    label_of,
    name_of,
    read_samples,
    split_of,
)
from apdist.data.preparing.tars import DamageError, members

PROBLEMS_KEPT = 20
ROW_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("label", pa.string()),
        ("name", pa.string()),  # of the class; empty where the rules name none
        ("split", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("crc32", pa.uint32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


class ShardError(ValueError):
    """A shard or one of its samples cannot be used; the message names shard, key and byte."""


@dataclass(frozen=True)
class ScanTask:
    """A shard to scan."""

    uri: str
    name: str
    """As the user knows it; what `shard:PATTERN` is searched in."""
    rules: Rules
    skip: bool
    """Pass over what cannot be used, instead of raising."""


@dataclass
class ShardRows:
    """What a pass over a shard found."""

    version: storage.Version
    table: pa.Table
    problems: list[str] = field(default_factory=list)
    """The first of what was passed over."""
    num_problems: int = 0

    def add_problem(self, text: str) -> None:
        """Count it, and keep its text while there are few."""
        self.num_problems += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(text)


def scan_shard(task: ScanTask) -> ShardRows:
    """Read the shard once, front to back.

    Raises:
        ShardError: the shard or one of its samples cannot be used, and ``task.skip`` is false.
    """
    before = storage.version(task.uri)
    found = ShardRows(before, ROW_SCHEMA.empty_table())
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    try:
        with storage.open_stream(task.uri) as stream:
            for sample in read_samples(members(stream, lambda name: is_wanted(name, task.rules))):
                check_stopped()
                if task.skip or not sample.is_cut:  # else the damage behind it is the news
                    _add(sample, task, rows, seen, found)
    except DamageError as error:
        _refuse(f"{task.uri} {error}", task, found)
    if storage.version(task.uri) != before:
        raise ShardError(f"{task.uri} was changed while it was read; index it again")
    found.table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    return found


def _add(
    sample: Sample, task: ScanTask, rows: list[dict[str, Any]], seen: set[str], found: ShardRows
) -> None:
    try:
        if sample.key in seen:
            raise SampleError(
                "has a key that came before; the members of a sample must be neighbours and keys "
                "different (tar --sort=name)"
            )
        row = _row(sample, task)
    except (SampleError, ImageError) as error:
        if not sample.is_cut:
            where = f"{task.uri}: sample {sample.key!r} at byte {sample.offset}"
            _refuse(f"{where} {error}", task, found)
    else:
        rows.append(row)
    seen.add(sample.key)


def _row(sample: Sample, task: ScanTask) -> dict[str, Any]:
    if sample.problem:
        raise SampleError(sample.problem)
    try:
        sample.key.encode()
    except UnicodeEncodeError as error:
        raise SampleError("has a key that is no UTF-8 text") from error
    image = image_of(sample, task.rules)
    width, height = image_size(image.data)
    return {
        "key": sample.key,
        "label": label_of(sample, task.rules),
        "name": name_of(sample, task.rules),
        "split": split_of(sample, task.rules, task.name),
        "offset": image.offset,
        "size": image.size,
        "crc32": zlib.crc32(image.data),
        "width": width,
        "height": height,
    }


def _refuse(text: str, task: ScanTask, found: ShardRows) -> None:
    if not task.skip:
        raise ShardError(f"{text}; mend it, or use --on-corrupt skip")
    found.add_problem(text)
