"""Time and peak memory of the listwise loss as the batch grows, each size in its own process.

    python benchmarks/loss_memory.py --sizes 16384 32768 65536 131072 --dim 128

Memory is the growth of the resident set above the descriptors and their gradient, while nothing of
size n x n is kept (``cache_mib=0``).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import torch
from loss_products import batch
from measuring import peak_memory

from apdist.loss.listwise import AveragePrecisionLoss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[16384, 32768, 65536])
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(measured(arguments.one, arguments.dim, arguments.threads))
        return
    print("| n | loss and gradient, s | MiB above inputs and gradient |")
    print("|---|---|---|")
    for size in arguments.sizes:
        command = [sys.executable, __file__, "--one", str(size), "--dim", str(arguments.dim)]
        command += ["--threads", str(arguments.threads)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        print(answer.stdout.strip(), flush=True)


def measured(num_images: int, dim: int, num_threads: int) -> str:
    """A line of the table."""
    torch.set_num_threads(num_threads)
    loss = AveragePrecisionLoss(cache_mib=0)
    few, names = batch(512, dim, "cpu")
    loss(few.requires_grad_(), names).backward()  # compiles, starts threads
    descriptors, labels = batch(num_images, dim, "cpu")
    descriptors.requires_grad_()
    with peak_memory() as peak:
        started = time.perf_counter()
        loss(descriptors, labels).backward()
        seconds = time.perf_counter() - started
    mib = peak[0] - descriptors.nbytes / 2**20
    return f"| {num_images:,} | {seconds:.1f} | {mib:.0f} |"


if __name__ == "__main__":
    main()
