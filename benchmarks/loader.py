"""The training stream against a plain loop that decodes the same images from memory.

    python benchmarks/loader.py
    python benchmarks/loader.py --s3                  # also from SeaweedFS (extra `dev`)
    python benchmarks/loader.py --s3 --per-class 8    # small classes: more reads for an image

A unit is what two processes reach that decode and augment 800 x 600 JPEGs to 224 px from bytes in
memory, with nothing else to do. Everything else has two processes too. Rounds alternate; medians
count. An S3 server on the same machine takes its share of the cores, which is told. Where others
use the machine, who waits for whom decides the time; the second ratio is of the processor time of
an image, without the server's.
"""

from __future__ import annotations

import argparse
import functools
import io
import math
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apdist.config import AugmentConfig, DataConfig
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.decoders import fill_of, resolved
from apdist.data.loading.loader_process import keep_freed_memory
from apdist.data.loading.reader import ImageReader, read_images
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import Plan
from apdist.data.preparing.shards import Encoded, Item, write_shards

NUM_IMAGES, SIDE, BATCH, GROUP = 480, 224, 96, 4
AUGMENT = AugmentConfig(min_scale=0.6, flip_probability=0.5)


class Measured(NamedTuple):
    """What one way of reading takes."""

    rate: float
    """Images a second."""
    cpu_rate: float
    """Images for each second of processor time, of this process and all that it started."""
    server_share: float = 0.0
    """Of the CPU, that an S3 server took meanwhile."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    # As ten million images of half a million classes, or the cleaned Google Landmarks v2, have.
    parser.add_argument("--per-class", type=int, default=20)
    parser.add_argument("--decoder", default="auto", help="as data.decoder")
    parser.add_argument("--s3", action="store_true")
    arguments = parser.parse_args()
    arguments.decoder = resolved(arguments.decoder)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        catalogue = write(f"{folder}/shards", arguments.per_class)
        ways = ways_to_read(catalogue, folder, arguments)
        if arguments.s3:
            server = stack.enter_context(seaweedfs())
            copy = upload(catalogue, f"s3://{server.bucket}/bench")
            ways["S3 on loopback"] = lambda: stream(copy, arguments, server.pid)
            cached = f"{folder}/s3-cache"
            stream(copy, arguments, cache_dir=cached)  # fills it
            ways["S3, from the disk cache"] = lambda: stream(
                copy, arguments, server.pid, cache_dir=cached
            )
        measured: dict[str, list[Measured]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                measured[name].append(way())
    show(measured, arguments)


def show(measured: dict[str, list[Measured]], arguments: argparse.Namespace) -> None:
    """Print the table."""
    units = measured["plain loop"]
    print(
        f"{arguments.decoder}, {arguments.processes} processes, JPEG 800 x 600 to {SIDE} px,",
        end=" ",
    )
    print(f"{arguments.per_class} images of each class, groups of {GROUP}")
    print("| way | images/s | against the plain loop | in each round |", end=" ")
    print("by processor time | in each round | CPU of the S3 server |")
    print("|---|---|---|---|---|---|---|")
    for name, rounds in measured.items():
        rate, _, share = (statistics.median(values) for values in zip(*rounds, strict=True))
        rows = [
            [one[place] / unit[place] for one, unit in zip(rounds, units, strict=True)]
            for place in (0, 1)
        ]
        ratios = " | ".join(
            f"{statistics.median(row):.2f} | {min(row):.2f} to {max(row):.2f}" for row in rows
        )
        print(f"| {name} | {rate:.0f} | {ratios} | {share:.0%} |")


def spent_s(server: int = 0) -> float:
    """Seconds of CPU of this process and of those it started, but for ``server`` (Linux)."""
    ours = os.times()
    running = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    children = [pid for pid in running if pid != server and parent_of(pid) == os.getpid()]
    return sum(ours[:4]) + sum(cpu_s(pid) for pid in children)


def parent_of(pid: int) -> int:
    """0 where the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has taken (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ways_to_read(
    catalogue: Catalogue, folder: str, arguments: argparse.Namespace
) -> dict[str, Callable[[], Measured]]:
    """What is compared, by the name it has in the table."""
    reader = ImageReader(catalogue)
    encoded = [bytes(data) for data in read_images(reader.request(np.arange(len(catalogue))))]
    passes = math.ceil(arguments.steps * BATCH / len(catalogue))
    return {
        "plain loop": lambda: plain(encoded, passes, arguments),
        "apdist, local shards": lambda: stream(catalogue, arguments),
        "apdist, local shards, threads": lambda: stream(
            catalogue, arguments, loader_processes=0, loader_threads=arguments.processes
        ),
        "webdataset, local shards": lambda: webdataset(f"{folder}/shards", passes, arguments),
    }


def plain(encoded: list[bytes], passes: int, arguments: argparse.Namespace) -> Measured:
    """Images a second of processes that have all bytes in memory."""
    processes, fill = arguments.processes, fill_of(arguments.decoder)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes + 1)

    def work(number: int) -> None:
        keep_freed_memory()  # as loaders do
        out = np.empty((3, SIDE, SIDE), np.uint8)
        barrier.wait()
        for _ in range(passes):
            for place in range(number, len(encoded), processes):
                fill(out, encoded[place], AUGMENT, place)

    workers = [context.Process(target=work, args=(number,)) for number in range(processes)]
    for worker in workers:
        worker.start()
    barrier.wait()
    started, used = time.perf_counter(), spent_s()
    for worker in workers:
        worker.join()
    num_images = passes * len(encoded)
    return Measured(num_images / (time.perf_counter() - started), num_images / (spent_s() - used))


def stream(
    catalogue: Catalogue, arguments: argparse.Namespace, server: int = 0, **options: Any
) -> Measured:
    """What is measured after the first batch; ``server`` is the process of an S3 server."""
    options = {"loader_processes": arguments.processes, "read_ahead_mib": 128} | options
    data = DataConfig(image_size=SIDE, group_size=GROUP, decoder=arguments.decoder, **options)
    plan = Plan(catalogue.labels, batch_size=BATCH, group_size=GROUP, seed=0)
    batches = TrainingStream(catalogue, plan, data, AUGMENT, lambda rows: rows).batches(
        0, arguments.steps
    )
    next(batches)
    started, ours, used = time.perf_counter(), spent_s(server), cpu_s(server) if server else 0.0
    num_images = sum(len(batch.images) for batch in batches)
    seconds, used = time.perf_counter() - started, cpu_s(server) - used if server else 0.0
    cpu_rate = num_images / (spent_s(server) - ours)
    return Measured(num_images / seconds, cpu_rate, used / seconds / arguments.processes)


def webdataset(folder: str, passes: int, arguments: argparse.Namespace) -> Measured:
    """A plain pipeline of webdataset with the same decoding, in torch's loader."""
    import torch
    import webdataset as wds

    shards = sorted(str(path) for path in Path(folder).glob("*.tar"))
    samples = wds.WebDataset(shards, shardshuffle=False, nodesplitter=None).to_tuple("jpg")
    data = samples.map(functools.partial(decoded, arguments.decoder))
    loader = torch.utils.data.DataLoader(
        data.batched(BATCH), batch_size=None, num_workers=min(arguments.processes, len(shards))
    )
    batches = (batch for _ in range(passes) for batch in loader)
    next(batches)
    started, used = time.perf_counter(), spent_s()
    num_images = sum(len(batch[0]) for batch in batches)
    return Measured(num_images / (time.perf_counter() - started), num_images / (spent_s() - used))


def decoded(decoder: str, sample: tuple[bytes]) -> tuple[NDArray[np.uint8]]:
    out = np.empty((3, SIDE, SIDE), np.uint8)
    fill_of(decoder)(out, sample[0], AUGMENT, 0)
    return (out,)


def write(folder: str, per_class: int = 20) -> Catalogue:
    """Shards of photograph-like pictures of about 150 KB, ``per_class`` of each class."""
    items = [
        Item(f"{label}/{number}.jpg", label, str(label), "train", (label, number))
        for label in range(NUM_IMAGES // per_class)
        for number in range(per_class)
    ]
    write_shards(items, picture, folder, shard_bytes=16 << 20, on_refused=refuse)
    return read_catalogue(folder)


def refuse(_item: Item, reason: str) -> None:
    raise ValueError(reason)


def picture(content: tuple[int, int], quality: int = 90) -> Encoded:
    random = np.random.default_rng(content)
    coarse = Image.fromarray(random.integers(0, 255, (75, 100, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((800, 600), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = (smooth + random.integers(-7, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
    target = io.BytesIO()
    Image.fromarray(noisy).save(target, "JPEG", quality=quality)
    return Encoded(target.getvalue(), "jpg", 800, 600)


@contextmanager
def seaweedfs() -> Iterator[Any]:
    """The server of the tests, and the environment that finds it."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.s3_server import s3_server

    # Reads of some 100 KB, from memory: it should cost as little as it can. Threads that wake on
    # both cores interrupt the decoders six times an image.
    small = ("-filer.maxMB=1", "-s3.cacheCapacityMB=1024")
    with ExitStack() as stack:
        with mock.patch.dict(os.environ, GOMAXPROCS="1"):
            server = stack.enter_context(s3_server(options=small))
        stack.enter_context(mock.patch.dict(os.environ, server.environment()))
        yield server


def upload(catalogue: Catalogue, root: str) -> Catalogue:
    """The same shards in a bucket."""
    for name in catalogue.shards:
        storage.write_bytes(
            storage.join(root, name), storage.read_bytes(storage.join(catalogue.root, name))
        )
    versions = {name: storage.version(storage.join(root, name)) for name in catalogue.shards}
    shards = {name: (version.size, version.etag) for name, version in versions.items()}
    return Catalogue(root, catalogue.table, shards)


if __name__ == "__main__":
    main()
