"""Write WebDataset shards with the images of a class in runs, and the index of them.

A *run* is a stretch of neighbouring images of one class, so that a group of a batch is one ranged
read.
"""

import io
import json
import logging
import random
import re
import tarfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from apdist.data import storage
from apdist.data.encoding import encode_all
from apdist.data.index import SCHEMA, Index, refuse_cut_off, write_index

logger = logging.getLogger(__name__)

RUN_LENGTH = 32
"""Most images of a class side by side: long enough for large groups, short enough to spread."""


@dataclass(frozen=True)
class Item:
    """One image that will be written; ``content`` is what the encoder needs to make its bytes."""

    source: str
    label: int
    label_name: str
    split: str
    content: Any


@dataclass(frozen=True)
class Encoded:
    """An encoded image, or, with ``refused``, the reason why there is none."""

    data: bytes = b""
    extension: str = ""
    width: int = 0
    height: int = 0
    refused: str = ""


Encoder = Callable[[Any], Encoded]


def write_shards(
    items: list[Item],
    encode: Encoder,
    out: str,
    *,
    shard_bytes: int,
    seed: int = 0,
    num_processes: int = 1,
    on_refused: Callable[[Item, str], None],
    progress: Callable[[int], None] = lambda _: None,
) -> Index:
    """Write ``items`` as shards under ``out`` and return their index, which is written last.

    Args:
        items: what to write, in any order.
        encode: a module-level function; runs in ``num_processes`` processes.
        out: folder or s3:// prefix; must be empty.
        shard_bytes: a shard is closed when it has reached this size.
        seed: order of runs and of the images inside a run.
        num_processes: processes that encode.
        on_refused: called with an item that has no image and the reason; raises, or skips it.
        progress: called with the number of items done.

    Raises:
        ValueError: ``out`` is not empty.
    """
    if not storage.is_remote(out) and storage.exists(out):
        raise ValueError(f"{out} is a file; choose a folder as --out")
    if not storage.is_empty(out):
        refuse_cut_off(out)
        raise ValueError(f"{out} is not empty; choose another --out or remove it first")
    ordered = arrange(items, seed)
    keys = unique_keys(item.source for item in ordered)
    images = encode_all([item.content for item in ordered], encode, num_processes)
    writer = _ShardWriter(out, shard_bytes)
    try:
        for done, (item, key, image) in enumerate(zip(ordered, keys, images, strict=True), 1):
            if image.refused:
                on_refused(item, image.refused)
            else:
                writer.add(item, key, image)
            progress(done)
        index = writer.finish()
        if not len(index):
            raise ValueError(f"none of the {len(items)} files is a readable image; nothing written")
    except BaseException:
        writer.abandon()
        raise
    write_index(index)
    return index


def arrange(items: list[Item], seed: int) -> list[Item]:
    """Splits apart; inside a split, runs of one class in random order, shuffled inside the run."""
    order = random.Random(seed)  # noqa: S311
    classes: dict[tuple[str, int], list[Item]] = defaultdict(list)
    for item in items:
        classes[item.split, item.label].append(item)
    runs = []
    for _, members in sorted(classes.items()):
        order.shuffle(members)
        num_runs = -(-len(members) // RUN_LENGTH)  # of nearly equal length: no run of one image
        runs += [members[i::num_runs] for i in range(num_runs)]
    order.shuffle(runs)
    runs.sort(key=lambda run: run[0].split)  # stable: the random order inside a split stays
    return [item for run in runs for item in run]


def unique_keys(sources: Iterable[str]) -> Iterator[str]:
    """WebDataset keys: a reader cuts a key at the first dot and takes equal keys for one sample."""
    next_number: Counter[str] = Counter()
    used: set[str] = set()
    for source in sources:
        stem = re.sub(r"\.[^./]+$", "", source)
        key = re.sub(r"[.\s\\:*?\"<>|]+", "_", stem).strip("/_") or "image"
        candidate = key
        while candidate in used:
            next_number[key] += 1
            candidate = f"{key}-{next_number[key]}"
        used.add(candidate)
        yield candidate


class _ShardWriter:
    """Writes tar members one after another and notes where each image lies."""

    def __init__(self, out: str, shard_bytes: int) -> None:
        self.out, self.shard_bytes = out, shard_bytes
        self.rows: list[dict[str, Any]] = []
        self.shards: dict[str, tuple[int, str]] = {}
        self.split = ""
        self.buffer = io.BytesIO()
        self.tar = self._new_tar()
        self.pending: list[dict[str, Any]] = []

    def add(self, item: Item, key: str, image: Encoded) -> None:
        if self.pending and (item.split != self.split or self.tar.offset >= self.shard_bytes):
            self._close_shard()
        self.split = item.split
        offset = self._write(f"{key}.{image.extension}", image.data)
        label = {"label": item.label, "label_name": item.label_name, "source": item.source}
        self._write(f"{key}.json", json.dumps(label, ensure_ascii=False).encode())
        self.pending.append(
            {
                "key": key,
                "source": item.source,
                "label": item.label,
                "label_name": item.label_name,
                "split": item.split,
                "offset": offset,
                "size": len(image.data),
                "crc32": zlib.crc32(image.data),
                "width": image.width,
                "height": image.height,
            }
        )

    def finish(self) -> Index:
        if self.pending:
            self._close_shard()
        return Index(self.out, pa.Table.from_pylist(self.rows, schema=SCHEMA), self.shards)

    def abandon(self) -> None:
        """Remove the shards written so far: without an index nobody could use them."""
        for name in self.shards:
            storage.remove(storage.join(self.out, name))

    def _new_tar(self) -> tarfile.TarFile:
        self.buffer = io.BytesIO()
        return tarfile.open(fileobj=self.buffer, mode="w", format=tarfile.PAX_FORMAT)

    def _write(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self.tar.offset - padded

    def _close_shard(self) -> None:
        self.tar.close()
        number = sum(name.startswith(f"{self.split}-") for name in self.shards)
        name = f"{self.split}-{number:06d}.tar"
        uri = storage.join(self.out, name)
        self.shards[name] = (0, "")  # from here on it may be there, and `abandon` removes it
        storage.write_bytes(uri, self.buffer.getvalue())
        self.shards[name] = storage.size_and_etag(uri)
        self.rows += [{"shard": name, **row} for row in self.pending]
        self.pending = []
        self.tar = self._new_tar()
