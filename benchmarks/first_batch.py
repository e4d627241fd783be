"""Time to the first batch of a stream that begins, or goes on, at some step.

    python benchmarks/first_batch.py
    python benchmarks/first_batch.py --s3          # also from SeaweedFS on loopback (extra `dev`)

Counted from opening the catalogue: reading it, planning, starting two loader processes, reading and
decoding one batch.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from contextlib import ExitStack

from loader import AUGMENT, BATCH, GROUP, SIDE, seaweedfs, upload, write

from apdist.config import DataConfig
from apdist.data.catalogue.catalogue import read_catalogue, write_catalogue
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import Plan

STEPS = (0, 1, 1_000, 123_457, 1_000_000, 1_000_000_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--s3", action="store_true")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        catalogue = write(f"{folder}/shards")
        places = {"local shards": catalogue.root}
        if arguments.s3:
            server = stack.enter_context(seaweedfs())
            copy = upload(catalogue, f"s3://{server.bucket}/bench")
            write_catalogue(copy)
            places["S3 on loopback"] = copy.root
        print(
            "| seconds to the first batch of step | " + " | ".join(f"{s:,}" for s in STEPS) + " |"
        )
        print("|---|" + "---|" * len(STEPS))
        for name, root in places.items():
            seconds: dict[int, list[float]] = {step: [] for step in STEPS}
            for _ in range(arguments.rounds):
                for step in STEPS:
                    seconds[step].append(first_batch_s(root, step))
            medians = [statistics.median(found) for found in seconds.values()]
            print(f"| {name} | " + " | ".join(f"{median:.2f}" for median in medians) + " |")


def first_batch_s(root: str, step: int) -> float:
    """Seconds from opening the catalogue at ``root`` to the batch of ``step``."""
    started = time.perf_counter()
    catalogue = read_catalogue(root)
    plan = Plan(catalogue.labels, batch_size=BATCH, group_size=GROUP, seed=0)
    data = DataConfig(image_size=SIDE, group_size=GROUP, loader_processes=2, read_ahead_mib=128)
    batches = TrainingStream(catalogue, plan, data, AUGMENT, lambda rows: rows).batches(
        step, step + 8
    )
    next(batches)
    seconds = time.perf_counter() - started
    batches.close()
    return seconds


if __name__ == "__main__":
    main()
