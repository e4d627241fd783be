"""Time and memory to open a large catalogue, plan the batch of any step and go on.

    python benchmarks/planning.py
    python benchmarks/planning.py --images 1000000 --class-weights sqrt

Writes a synthetic catalogue (classes of 20 images, in runs) to a temporary folder and opens it in a
fresh process for each row. `open` includes the check of all rows; `first batch` the plan and its
first batch at that step; `all CPU` is what that took on all threads; `next` is the mean of 200
batches that follow and `slowest` the slowest of those that cross into the next epoch. The peak is
that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from apdist.data.catalogue.catalogue import FORMAT_VERSION, SCHEMA, read_catalogue
from apdist.data.plan.batch_sampler import Plan

IMAGES_PER_CLASS = 20
IMAGES_PER_SHARD = 10_000
IMAGE_BYTES = 100_000
ROWS_AT_ONCE = 1_000_000


def main() -> None:
    arguments = parsed()
    if arguments.root:
        print(json.dumps(measure(arguments)))
        return
    print(
        "| step | import s | open s | first batch s | all CPU s | peak MiB | next ms | slowest ms |"
    )
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as root:
        write_synthetic(Path(root), arguments.images, arguments.order)
        size_mib = (Path(root) / "index.parquet").stat().st_size / 2**20
        for step in (0, 1_000, 1_000_000):
            own = [*sys.argv[1:], "--root", root, "--step", str(step)]
            answer = subprocess.run(
                [sys.executable, __file__, *own], check=True, capture_output=True, text=True
            ).stdout
            f = json.loads(answer)
            print(
                f"| {step:,} | {f['import_s']:.2f} | {f['open_s']:.2f} | {f['first_s']:.2f} | "
                f"{f['cpu_s']:.2f} | {f['peak_mib']:.0f} | {f['next_ms']:.2f} | "
                f"{f['slowest_ms']:.0f} |"
            )
    print(f"\n{arguments.images:,} images, index of {size_mib:.0f} MiB, {arguments}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--order", choices=["runs", "scattered"], default="runs")
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--class-weights", choices=["images", "classes", "sqrt"], default="images")
    parser.add_argument("--classes-per-batch", type=int, default=0)
    parser.add_argument("--max-groups-per-class", type=int, default=0)
    parser.add_argument("--root", default="", help="an index that was written before")
    parser.add_argument("--step", type=int, default=0)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Open, plan and go on from a step; in a process that does nothing else."""
    begun = time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
    started = time.perf_counter()
    catalogue = read_catalogue(arguments.root).select("train")
    opened = time.perf_counter()
    plan = Plan(
        catalogue.labels,
        batch_size=arguments.batch_size,
        group_size=arguments.group_size,
        seed=0,
        class_weights=arguments.class_weights,
        classes_per_batch=arguments.classes_per_batch,
        max_groups_per_class=arguments.max_groups_per_class,
    )
    plan.rows(arguments.step)
    first, cpu_s = time.perf_counter(), time.process_time()
    for step in range(arguments.step + 1, arguments.step + 201):
        plan.rows(step)
    done = time.perf_counter()
    return {
        "import_s": begun,
        "open_s": opened - started,
        "first_s": first - opened,
        "cpu_s": cpu_s,
        "next_ms": (done - first) / 200 * 1e3,
        "slowest_ms": 1e3 * slowest_at_an_epoch_end(plan),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def slowest_at_an_epoch_end(plan: Plan) -> float:
    """Seconds of the slowest batch of those around the beginning of an epoch not yet planned."""
    border, slowest = 100 * plan.summary.steps_per_epoch, 0.0
    for step in range(border, border + 3):
        started = time.perf_counter()
        plan.rows(step)
        slowest = max(slowest, time.perf_counter() - started)
    return slowest


def write_synthetic(root: Path, num_images: int, order: str) -> None:
    """A catalogue of shards that do not exist, with the classes in random order as in real ones."""
    num_classes = -(-num_images // IMAGES_PER_CLASS)
    labels = np.repeat(np.random.default_rng(0).permutation(num_classes), IMAGES_PER_CLASS)
    labels = labels[:num_images]
    if order == "scattered":
        np.random.default_rng(1).shuffle(labels)
    num_shards = -(-num_images // IMAGES_PER_SHARD)
    shards = {f"train-{i:06d}.tar": (IMAGES_PER_SHARD * IMAGE_BYTES, "") for i in range(num_shards)}
    meta = {
        "version": FORMAT_VERSION,
        "num_images": num_images,
        "num_classes": num_classes,
        "shards": shards,
    }
    schema = SCHEMA.with_metadata({"apdist": json.dumps(meta)})
    names = pa.array([f"landmark {label:07d}" for label in range(num_classes)])
    with pq.ParquetWriter(root / "index.parquet", schema, write_page_checksum=True) as writer:
        for start in range(0, num_images, ROWS_AT_ONCE):
            rows = np.arange(start, min(start + ROWS_AT_ONCE, num_images))
            writer.write_table(rows_of(rows, labels[rows], list(shards), names, schema))


def rows_of(
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    shards: list[str],
    names: pa.Array,
    schema: pa.Schema,
) -> pa.Table:
    def coded(codes: NDArray[np.int64], values: pa.Array) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), values)

    keys = [
        f"landmark_{c:07d}/{r:09d}" for c, r in zip(labels.tolist(), rows.tolist(), strict=True)
    ]
    columns = {
        "shard": coded(rows // IMAGES_PER_SHARD, pa.array(shards)),
        "key": keys,
        "source": [f"{key}.jpg" for key in keys],
        "label": labels,
        "label_name": coded(labels, names),
        "split": coded(np.zeros_like(rows), pa.array(["train"])),
        "offset": rows % IMAGES_PER_SHARD * IMAGE_BYTES + 512,
        "size": np.full(len(rows), IMAGE_BYTES - 2048),
        "crc32": [zlib.crc32(key.encode()) for key in keys],
        "width": np.full(len(rows), 800),
        "height": np.full(len(rows), 600),
    }
    return pa.table([pa.array(columns[f.name], f.type) for f in schema], schema=schema)


if __name__ == "__main__":
    main()
