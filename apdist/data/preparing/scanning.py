"""One streaming pass over a shard that others wrote: a row for each of its images."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from apdist.data import storage
from apdist.data.images import ImageError, image_size, refuse_cut
from apdist.data.preparing.encoding import check_stopped
from apdist.data.preparing.kinds import COMPOSED
from apdist.data.preparing.samples import (
    Rules,
    Sample,
    SampleError,
    image_of,
    is_stray,
    is_wanted,
    label_of,
    name_of,
    read_samples,
    split_of,
)
from apdist.data.preparing.tally import Tally
from apdist.data.preparing.tars import DamageError, members
from apdist.data.text import composed, shown_name

PROBLEMS_KEPT = 10_000
"""Of a shard, by name; more than most shards have samples."""
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
    """Shards or samples cannot be used; ``problems`` holds the place and the reason of each."""

    def __init__(self, text: str, problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(text)
        self.problems = problems


@dataclass(frozen=True)
class ScanTask:
    """A shard to scan."""

    uri: str
    name: str
    """As the user knows it; what `shard:PATTERN` is searched in."""
    rules: Rules


@dataclass
class ShardRows:
    """What a pass over a shard found."""

    version: storage.Version
    table: pa.Table
    problems: list[tuple[str, str]] = field(default_factory=list)
    """What cannot be used, and why."""
    num_problems: int = 0
    tally: Tally = field(default_factory=Tally)
    """What belongs to no sample."""

    def add_problem(self, where: str, reason: str) -> None:
        """Count it, and keep its text while there are not too many."""
        self.num_problems += 1
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append((where, reason))


def scan_shard(task: ScanTask) -> ShardRows:
    """Read the shard once, front to back; what cannot be used is noted.

    Raises:
        ShardError: the shard was changed meanwhile.
    """
    before = storage.version(task.uri)
    found = ShardRows(before, ROW_SCHEMA.empty_table())
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    try:
        with storage.open_stream(task.uri) as stream:
            wanted = members(stream, lambda name: is_wanted(name, task.rules))
            for sample in read_samples(wanted, found.tally):
                check_stopped()
                _add(sample, task, rows, seen, found)
    except DamageError as error:
        found.add_problem(task.uri, str(error))
    if storage.version(task.uri) != before:
        raise ShardError(f"{task.uri} was changed while it was read; index it again")
    found.table = pa.Table.from_pylist(rows, schema=ROW_SCHEMA)
    return found


def _add(
    sample: Sample, task: ScanTask, rows: list[dict[str, Any]], seen: set[str], found: ShardRows
) -> None:
    if is_stray(sample, task.rules):
        for extension, member in sample.members.items():
            found.tally.add(f"no part of a sample: .{extension}", shown_name(member.name))
        return
    try:
        if sample.key in seen:
            raise SampleError(
                "has a key that came before; the members of a sample must be neighbours and keys "
                "different (tar --sort=name)"
            )
        row = _row(sample, task, found.tally)
    except (SampleError, ImageError) as error:
        if not sample.is_cut:  # else the damage behind it is the news
            where = f"{task.uri}: sample {sample.key!r} at byte {sample.offset}"
            found.add_problem(where, str(error))
    else:
        rows.append(row)
    seen.add(sample.key)


def _row(sample: Sample, task: ScanTask, tally: Tally) -> dict[str, Any]:
    if sample.problem:
        raise SampleError(sample.problem)
    _refuse_other_text("key", sample.key)
    image = image_of(sample, task.rules)
    width, height = image_size(image.data)
    refuse_cut(image.data)
    label, name = label_of(sample, task.rules), name_of(sample, task.rules)
    for what, text in (("label", label), ("name", name)):
        _refuse_other_text(what, text)
    if composed(label) != label:
        tally.add(COMPOSED, sample.key)
    return {
        "key": sample.key,
        "label": composed(label),
        "name": composed(name),
        "split": split_of(sample, task.rules, task.name),
        "offset": image.offset,
        "size": image.size,
        "crc32": zlib.crc32(image.data),
        "width": width,
        "height": height,
    }


def _refuse_other_text(what: str, text: str) -> None:
    """Names in a tar may be any bytes, and JSON has escapes for halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SampleError(f"has a {what} that is no UTF-8 text") from error
