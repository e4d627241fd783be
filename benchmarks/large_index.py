"""An index of more images than fit in memory: built in a stream, loaded, searched and changed.

    python benchmarks/large_index.py /tmp/large --rows 10000000 --dim 128 --kinds exact ivf_pq

Descriptors of classes of 50 images come part by part, made on the way. Memory is what the process
holds by itself at most (anonymous pages, looked at every 20 ms); beside it stand all its pages, of
which those of mapped files are the kernel's to drop. Times are of one run each, on the
clock and of the processor.
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn.functional import normalize

from apdist.retrieval import (
    add_to_index,
    load_index,
    parse_filter,
    remove_from_index,
    write_index,
)
from apdist.retrieval.index import KINDS

IMAGES_OF_A_CLASS = 50
PART = 1 << 16
LOOK_EVERY_S = 0.02


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    print("| kind | step | s | CPU s | own memory, MiB | all pages, MiB | |")
    print("|---|---|---|---|---|---|---|")
    for kind in arguments.kinds:
        folder = Path(arguments.folder) / kind
        try:
            measure(arguments, kind, folder)
        finally:
            if not arguments.keep:
                shutil.rmtree(folder, ignore_errors=True)


def measure(arguments: argparse.Namespace, kind: str, folder: Path) -> None:
    rows, dim = arguments.rows, arguments.dim

    def step(name: str, note: str = "") -> Measured:
        return Measured(kind, name, note)

    with step("build") as built:
        settings = write_index(parts(0, rows, dim), folder, kind=kind, model_id="benchmark")
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        built.note = f"{size / 1e9:.2f} GB on disk, recall@10 {settings['recall_at_10']:.4f}"
    with step("load"):
        index = load_index(folder, model_id="benchmark")
    queries = descriptors(rows, 100, dim)
    for name in ("search, first", "search, again"):
        with step(name, "100 queries, the nearest 10"):
            index.search(queries, 10)
    for text in ("group=3", "price<500"):
        with step(f"search, {text}") as searched:
            found = parse_filter([text])
            scores, _ = index.search(queries, 10, where=found)
            share = found.rows(index.entries).double().mean()
            searched.note = f"{share:.1%} of the images; {scores.shape[1]} results"
    del index
    with step("add 1,000"):
        add_to_index(folder, parts(rows, rows + 1000, dim), model_id="benchmark")
    with step("remove 1,000"):
        remove_from_index(folder, [key_of(row) for row in range(0, rows, rows // 1000)][:1000])


def parts(start: int, stop: int, dim: int) -> Iterator[tuple[Tensor, pa.Table]]:
    """Descriptors of the images from ``start`` to ``stop`` and their entries."""
    for first in range(start, stop, PART):
        count = min(PART, stop - first)
        rows = np.arange(first, first + count)
        yield (
            descriptors(first, count, dim),
            pa.table(
                {
                    "key": [key_of(row) for row in rows.tolist()],
                    "label": rows // IMAGES_OF_A_CLASS,
                    "group": pa.array((rows % 1000).astype(str)).dictionary_encode(),
                    "price": rows * 7919 % 1000,
                }
            ),
        )


def descriptors(first: int, count: int, dim: int) -> Tensor:
    """(count, d) of the images from ``first`` on: near the centre of their class."""
    generator = torch.Generator().manual_seed(first)
    classes = -(-count // IMAGES_OF_A_CLASS)
    centres = torch.randn(classes, dim, generator=generator)
    noise = torch.randn(count, dim, generator=generator)
    return normalize(centres.repeat_interleave(IMAGES_OF_A_CLASS, 0)[:count] + 0.6 * noise, dim=1)


def key_of(row: int) -> str:
    return f"class {row // IMAGES_OF_A_CLASS:07}/picture {row:08}.jpg"


class Measured:
    """Seconds and memory of a block, printed as a row."""

    def __init__(self, kind: str, name: str, note: str) -> None:
        self.kind, self.name, self.note = kind, name, note

    def __enter__(self) -> Measured:
        self._watch = watching()
        self.most = self._watch.__enter__()
        self._start, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, cpu = time.perf_counter() - self._start, time.process_time() - self._cpu
        self._watch.__exit__(None, None, None)
        own, pages = (f"{kib / 1024:.0f}" for kib in self.most)
        figures = f"{seconds:.2f} | {cpu:.2f} | {own} | {pages}"
        print(f"| {self.kind} | {self.name} | {figures} | {self.note} |", flush=True)


@contextmanager
def watching() -> Iterator[list[int]]:
    """The most KiB of own memory and of all pages, so far."""
    most = [0, 0]
    is_over = threading.Event()

    def look() -> None:
        while True:
            status = Path("/proc/self/status").read_text().split()
            for place, name in enumerate(("RssAnon:", "VmRSS:")):
                most[place] = max(most[place], int(status[status.index(name) + 1]))
            if is_over.wait(LOOK_EVERY_S):
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        is_over.set()
        thread.join()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="for the indexes; they are removed at the end")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--kinds", nargs="+", default=["exact"], choices=KINDS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
