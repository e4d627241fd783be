"""Cost of the listwise loss, forward and backward, in units of the matrix product it contains.

    python benchmarks/loss_products.py --sizes 2048 4096 --dims 512 2048 --threads 2

A unit is one n x n x d product by `torch.mm` in float32, in the same process with the same
threads. Memory is the growth of the resident set above the descriptors and their gradient, in the
first step of that size.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from apdist.loss.average_precision import AveragePrecisionLoss
from apdist.loss.baselines import BatchLoss, metric_learning
from apdist.loss.options import DEFAULT_CACHE_BYTES

Work = Callable[[], object]


@dataclass(frozen=True)
class Seconds:
    """The fastest run, on the clock and in processor time."""

    wall: float
    cpu: float


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, best of {arguments.repeats}")
    print("| loss | n | d | seconds | products | products, CPU time | MiB |")
    print("|---|---|---|---|---|---|---|")
    for num_images in arguments.sizes:
        for size in arguments.dims:
            compare(num_images, size, arguments)


def compare(num_images: int, size: int, arguments: argparse.Namespace) -> None:
    """Print the lines of one batch."""
    descriptors, labels = batch(num_images, size)
    steps = {name: step_of(loss, descriptors, labels) for name, loss in losses(arguments).items()}
    gradient_mib = descriptors.numel() * descriptors.element_size() / 2**20
    memory = {name: grown_mib(step) - gradient_mib for name, step in steps.items()}
    scores = torch.empty(num_images, num_images)
    works: dict[str, Work] = {
        "torch.mm": lambda: torch.mm(descriptors, descriptors.T, out=scores),
        **steps,
        "own half of the rows": rows_step(descriptors, labels, arguments.tile_size),
    }
    seconds = fastest(works, arguments.repeats)
    unit = seconds["torch.mm"]
    for name, spent in seconds.items():
        mib = f"{memory[name]:.0f}" if name in memory else ""
        print(
            f"| {name} | {num_images} | {size} | {spent.wall:.3f} "
            f"| {spent.wall / unit.wall:.2f} | {spent.cpu / unit.cpu:.2f} | {mib} |",
            flush=True,
        )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--dims", type=int, nargs="+", default=[512, 2048])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tile-size", type=int, default=None)
    parser.add_argument("--plain", action="store_true", help="also the passes in plain torch")
    parser.add_argument("--dense", action="store_true", help="also the definition: O(n^2 M) memory")
    parser.add_argument("--peers", action="store_true", help="also pytorch-metric-learning")
    return parser.parse_args()


def losses(arguments: argparse.Namespace) -> dict[str, BatchLoss]:
    """What is compared, by the name it has in the table."""
    tile_size = arguments.tile_size
    found: dict[str, BatchLoss] = {
        "no n^2 storage": AveragePrecisionLoss(tile_size=tile_size, cache_bytes=0),
        "a byte a pair": AveragePrecisionLoss(
            tile_size=tile_size, cache_bytes=max(DEFAULT_CACHE_BYTES, max(arguments.sizes) ** 2)
        ),
    }
    if arguments.plain:
        found["plain torch"] = AveragePrecisionLoss(backend="tiled", cache_bytes=0)
    if arguments.dense:
        found["definition"] = AveragePrecisionLoss(backend="dense")
    if arguments.peers and importlib.util.find_spec("pytorch_metric_learning"):
        found["FastAPLoss"] = metric_learning("FastAPLoss", num_bins=19)
    return found


def batch(num_images: int, size: int) -> tuple[Tensor, Tensor]:
    """Unit vectors in classes of four, half signal and half noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_images) // 4
    centres = torch.randn(num_images // 4 + 1, size, generator=generator)
    noise = torch.randn(num_images, size, generator=generator)
    return normalize(centres[labels] + noise, dim=1), labels


def step_of(loss: BatchLoss, descriptors: Tensor, labels: Tensor) -> Work:
    """Forward and backward of ``loss``, once done on a small batch to compile and start threads."""

    def step(num_images: int = len(descriptors)) -> None:
        leaf = descriptors[:num_images].detach().requires_grad_()
        loss(leaf, labels[:num_images]).backward()

    step(512)
    return step


def rows_step(descriptors: Tensor, labels: Tensor, tile_size: int | None) -> Work:
    """What the first of two workers does: its own rows against all, nothing exchanged."""
    loss = AveragePrecisionLoss(tile_size=tile_size, cache_bytes=0)
    rows = slice(0, len(descriptors) // 2)

    def step() -> None:
        loss.score_rows(
            descriptors,
            labels,
            rows,
            sum_over_workers=lambda sums: sums,
            gather_rows=lambda slopes: slopes.repeat(2, 1, 1),
        )

    return step


def fastest(works: dict[str, Work], repeats: int) -> dict[str, Seconds]:
    """Best of several rounds; in each, every work once, so that all meet the same machine."""
    rounds: dict[str, list[Seconds]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            spent = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
            rounds[name].append(spent)
    return {
        name: Seconds(min(run.wall for run in runs), min(run.cpu for run in runs))
        for name, runs in rounds.items()
    }


def grown_mib(work: Work) -> float:
    """How far the process grows above its memory before ``work``."""
    gc.collect()
    with peak_memory() as peak:
        work()
    return peak[0]


@contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Growth of the resident set in MiB, sampled every millisecond, in the list's one entry."""
    before, peak, done = resident_mib(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            peak[0] = max(peak[0], resident_mib() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def resident_mib() -> float:
    """MiB of this process in memory; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
