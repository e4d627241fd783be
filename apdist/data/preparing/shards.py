"""Write WebDataset shards with the images of a class in runs, and the catalogue of them.

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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from apdist.data import storage
from apdist.data.catalogue.catalogue import SCHEMA, Catalogue, write_catalogue
from apdist.data.preparing.claim import claimed
from apdist.data.preparing.encoding import encode_all

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
    remark: str = ""
    """What should be counted of an image that is used."""


class RefusedError(ValueError):
    """Files have no readable image; `write_shards` has named each."""


Encoder = Callable[[Any], Encoded]


def write_shards(
    items: list[Item],
    encode: Encoder,
    out: str,
    *,
    shard_bytes: int,
    seed: int = 0,
    num_processes: int = 1,
    is_strict: bool = True,
    on_refused: Callable[[Item, str], None],
    on_remark: Callable[[Item, str], None] = lambda _item, _remark: None,
    beside: Callable[[Catalogue], None] = lambda _: None,
    progress: Callable[[int], None] = lambda _: None,
) -> Catalogue:
    """Write ``items`` as shards under ``out`` and return their catalogue, which is written last.

    Args:
        items: what to write, in any order.
        encode: a module-level function; runs in ``num_processes`` processes.
        out: folder or s3:// prefix; must be empty.
        shard_bytes: a shard is closed when it has reached this size.
        seed: order of runs and of the images inside a run.
        num_processes: processes that encode.
        is_strict: an item without an image ends it, once all have been looked at; else it is
            skipped.
        on_refused: called with each item that has no image and the reason.
        on_remark: called with an item that is used and what should be counted of it.
        beside: called with the catalogue before it is written: writes what belongs to the set.
        progress: called with the number of items done.

    Raises:
        RefusedError: an item has no image and ``is_strict``, or none has one.
        ValueError: ``out`` is not empty, or another process writes there.
    """
    ordered = arrange(items, seed)
    keys = unique_keys(item.source for item in ordered)
    images = encode_all([item.content for item in ordered], encode, num_processes)
    writer = _ShardWriter(out, shard_bytes)
    num_refused = 0
    with claimed(out):
        # Left to the garbage collector the processes could be ended by one of their own threads.
        with writer.abandoned_if_it_fails(), closing(images):
            for done, (item, key, image) in enumerate(zip(ordered, keys, images, strict=True), 1):
                if image.refused:
                    num_refused += 1
                    on_refused(item, image.refused)
                elif not (is_strict and num_refused):
                    writer.add(item, key, image)
                if image.remark:
                    on_remark(item, image.remark)
                progress(done)
            if num_refused == len(items):
                raise RefusedError(f"none of the {len(items)} files is a readable image")
            if is_strict and num_refused:
                raise RefusedError(f"no readable image in {num_refused} of {len(items)} files")
            catalogue = writer.finish()
            beside(catalogue)
        write_catalogue(catalogue)
    return catalogue


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
    """Writes tar members one after another and notes where each image lies.

    A shard is written to a local file. A thread of its own puts it in its place while the next one
    is written; at most one waits.
    """

    def __init__(self, out: str, shard_bytes: int) -> None:
        self.out, self.shard_bytes = out, shard_bytes
        self.tables: list[pa.Table] = []
        self.shards: dict[str, tuple[int, str]] = {}
        self.split = self.name = ""
        self.pending: list[dict[str, Any]] = []
        self.open = ExitStack()
        self.placer = ThreadPoolExecutor(1, thread_name_prefix="shard")
        self.placing: Future[None] | None = None

    def add(self, item: Item, key: str, image: Encoded) -> None:
        if self.pending and (item.split != self.split or self.tar.offset >= self.shard_bytes):
            self._close_shard()
        self.split = item.split
        with self._explained():
            if not self.pending:
                self._open_shard()
            offset = self._write(f"{key}.{image.extension}", image.data)
            label = {"label": item.label, "label_name": item.label_name, "source": item.source}
            self._write(f"{key}.json", json.dumps(label, ensure_ascii=False).encode())
        self.pending.append(
            {
                "shard": self.name,
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

    def finish(self) -> Catalogue:
        if self.pending:
            self._close_shard()
        self._wait()
        self.placer.shutdown()
        table = pa.concat_tables([SCHEMA.empty_table(), *self.tables]).unify_dictionaries()
        return Catalogue(self.out, table.combine_chunks(), self.shards)

    @contextmanager
    def abandoned_if_it_fails(self) -> Iterator[None]:
        """Leave nothing behind where the block fails: without a catalogue nobody could use it."""
        try:
            yield
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        self.placer.shutdown()
        stopped = InterruptedError("stopped")
        with suppress(OSError):  # what is left to be written fails again, on a full disk
            self.open.__exit__(type(stopped), stopped, None)  # drops the file that is open
        for name in self.shards:
            storage.remove(storage.join(self.out, name))

    def _open_shard(self) -> None:
        number = sum(name.startswith(f"{self.split}-") for name in self.shards)
        self.name = f"{self.split}-{number:06d}.tar"
        with ExitStack() as stack:
            uri = storage.join(self.out, self.name)
            path = stack.enter_context(storage.local_target(uri))
            self.tar = stack.enter_context(tarfile.open(path, "w", format=tarfile.PAX_FORMAT))
            self.open = stack.pop_all()

    def _write(self, name: str, data: bytes) -> int:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        self.tar.addfile(info, io.BytesIO(data))
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return self.tar.offset - padded

    def _close_shard(self) -> None:
        self._wait()
        self.shards[self.name] = (0, "")  # from here on it may be there, and `_abandon` removes it
        self.placing = self.placer.submit(self._place, self.name, self.open.pop_all())
        self.tables.append(pa.Table.from_pylist(self.pending, schema=SCHEMA))
        self.pending = []

    def _place(self, name: str, shard: ExitStack) -> None:
        """Close the tar and let its file become the shard."""
        with self._explained(name):
            shard.close()
            placed = storage.version(storage.join(self.out, name))
            self.shards[name] = placed.size, placed.etag

    def _wait(self) -> None:
        if self.placing is not None:
            self.placing.result()

    @contextmanager
    def _explained(self, name: str = "") -> Iterator[None]:
        try:
            yield
        except storage.StorageError:
            raise
        except OSError as error:
            shard = storage.join(self.out, name or self.name)
            raise storage.StorageError(
                f"{shard} cannot be written ({error.strerror}); make room there, or choose another "
                "folder that you may write to"
            ) from error
