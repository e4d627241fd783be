"""Memory of the training stream over epochs: this process and its loaders (Linux).

    python benchmarks/reader_memory.py
    python benchmarks/reader_memory.py --s3        # from SeaweedFS on loopback (extra `dev`)

Counted is the proportional share (PSS), so that memory that processes share is counted once. What
is told is the growth over loaders that have read one image each.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np
from loader import AUGMENT, BATCH, GROUP, SIDE, seaweedfs, upload, write

from apdist.config import DataConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.loading.buffers import Buffer
from apdist.data.loading.decoding import Task
from apdist.data.loading.pool import new_pool
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import Plan

MIB = 1 << 20
SAMPLE_S = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--read-ahead-mib", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--s3", action="store_true")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        catalogue = write(f"{folder}/shards")
        if arguments.s3:
            server = stack.enter_context(seaweedfs())
            catalogue = upload(catalogue, f"s3://{server.bucket}/bench")
        plan = Plan(catalogue.labels, batch_size=BATCH, group_size=GROUP, seed=0)
        length = plan.summary.steps_per_epoch
        print(f"batches of {BATCH * 3 * SIDE**2 / MIB:.1f} MiB, {length} an epoch, 2 loaders")
        names = " | ".join(f"epoch {number + 1}" for number in range(arguments.epochs))
        print(f"| data.read_ahead_mib | {names} |")
        print("|---|" + "---|" * arguments.epochs)
        for allowed in arguments.read_ahead_mib:
            peaks = peak_bytes(catalogue, plan, allowed, arguments.epochs)
            print(f"| {allowed} | " + " | ".join(f"{peak / MIB:.0f}" for peak in peaks) + " |")


def peak_bytes(catalogue: Catalogue, plan: Plan, allowed_mib: int, num_epochs: int) -> list[int]:
    """Most growth in each epoch."""
    data = DataConfig(
        image_size=SIDE, group_size=GROUP, loader_processes=2, read_ahead_mib=allowed_mib
    )
    stream = TrainingStream(catalogue, plan, data, AUGMENT, lambda rows: rows)
    before, most, peaks = idle_bytes(stream), 0, list[int]()
    done = threading.Event()

    def sample() -> None:
        nonlocal most
        while not done.wait(SAMPLE_S):
            most = max(most, proportional_bytes() - before)

    thread = threading.Thread(target=sample)
    thread.start()
    length = plan.summary.steps_per_epoch
    for batch in stream.batches(0, length * num_epochs):
        if (batch.step + 1) % length == 0:
            peaks.append(most)
            most = 0
    done.set()
    thread.join()
    return peaks


def idle_bytes(stream: TrainingStream) -> int:
    """What loaders take that have read one image each."""
    pool, buffer = new_pool(stream.data.loader_processes, stream.settings), Buffer((2, 3, 8, 8))
    order = Task(stream.reader.request(np.array([0])), 0, 0)
    for future in [pool.submit(order, buffer, place) for place in range(2)]:
        future.result()
    found = proportional_bytes()
    pool.close()
    buffer.close()
    return found


def loaders() -> list[str]:
    """Numbers of the loader processes."""
    tasks = Path("/proc/self/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    return [
        pid for pid in children if b"loader_process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def proportional_bytes() -> int:
    """Memory of this process and of its children."""
    total = 0
    for pid in ["self", *loaders()]:
        with suppress(OSError):  # it ends
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


if __name__ == "__main__":
    main()
