"""Cost of the three-stage step against one plain backward pass over the same batch.

    python benchmarks/step_cost.py modes
    python benchmarks/step_cost.py memory
    python benchmarks/step_cost.py workers
    python benchmarks/step_cost.py share

modes: a small ResNet, one worker; what the step takes in units of one forward and
backward pass of the whole batch with the same loss, the median of the rounds' ratios; `chunks` is
that pass with the images in chunks and nothing else of the step. Three sizes, each in a process of
its own: the pixels that people train with; small images in chunks that fill two cores; small images
in chunks that do not. memory: peak of `recompute` as the batch grows at a fixed chunk. workers: one
and two processes of one thread each, the same global batch, and two that have half of it each and
exchange nothing, as fast as this machine lets two processes be; the median of three rounds. share:
the loss's share of a step of ResNet-50 at 224 px and 4,096 images; the two passes over the images
are timed on one chunk and multiplied by the number of chunks.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from measuring import Seconds, Work, fastest, grown_mib, timed_rounds
from torch import Tensor, nn
from torch.nn.functional import normalize

from apdist.config import ModelConfig
from apdist.loss.gradient import score_own_rows
from apdist.loss.listwise import AveragePrecisionLoss, average_precision_loss
from apdist.model.backbones import BasicBlock, ResNet
from apdist.model.descriptor import DescriptorNet
from apdist.training.step.activations import Activations
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.options import StepOptions
from apdist.training.step.step import global_step

SEED = 0
SIZES = ((64, 224, 16), (256, 64, 64), (256, 64, 32))
"""Images, pixels and chunk of each table of `modes`."""


def main() -> None:
    arguments = parsed()
    if arguments.what == "memory" and arguments.images:
        print(f"{peak_of_recompute(arguments.images, arguments):.0f}")
        return
    {"modes": modes, "memory": memory, "workers": workers, "share": share}[arguments.what](
        arguments
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["modes", "memory", "workers", "share"])
    parser.add_argument("--chunk-size", type=int, default=32)
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--images", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def modes(arguments: argparse.Namespace) -> None:
    """Each activation mode against one plain pass, at each size."""
    for size in SIZES:
        mp.spawn(modes_of, (*size, arguments))  # type: ignore[attr-defined, no-untyped-call]


def modes_of(
    _: int, num_images: int, side: int, chunk_size: int, arguments: argparse.Namespace
) -> None:
    torch.set_num_threads(arguments.threads)
    images, labels = batch(num_images, side)
    network = small_resnet()

    def plain() -> None:
        average_precision_loss(network(images), labels).backward()
        network.zero_grad()

    def step(mode: Activations) -> None:
        three_stages(network, images, labels, chunk_size, mode)

    def chunks() -> None:
        described = torch.cat([network(some) for some in images.split(chunk_size)])
        average_precision_loss(described, labels).backward()
        network.zero_grad()

    works: dict[str, Work] = {"plain": plain, "chunks": chunks}
    for mode in ("store", "offload", "recompute"):
        works[mode] = functools.partial(step, mode)
    for work in works.values():
        work()  # compiles the loss, finds the convolutions' algorithms
    rounds = timed_rounds(works, arguments.repeats, images.device)
    print(f"small ResNet, {num_images} images of {side} px, chunks of {chunk_size}")
    print("| step | seconds | against plain | CPU time against plain | against chunks |")
    print("|---|---|---|---|---|")
    for name, runs in rounds.items():
        wall, cpu = (median_ratio(runs, rounds["plain"], clock) for clock in ("wall", "cpu"))
        beyond = median_ratio(runs, rounds["chunks"], "wall")
        seconds = statistics.median(run.wall for run in runs)
        print(f"| {name} | {seconds:.2f} | {wall:.2f} | {cpu:.2f} | {beyond:.2f} |", flush=True)


def median_ratio(runs: list[Seconds], against: list[Seconds], clock: str) -> float:
    """Of one round's seconds to the same round's."""
    ratios = [
        float(getattr(run, clock) / getattr(other, clock))
        for run, other in zip(runs, against, strict=True)
    ]
    return statistics.median(ratios)


def memory(arguments: argparse.Namespace) -> None:
    """Peak beyond images and descriptors, each size in a process of its own."""
    print("| images | MiB beyond images and descriptors |")
    print("|---|---|")
    # Freed memory goes back to the system at once, so that the resident set is what is in use.
    tuned = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    environment = {**os.environ, **tuned, "MALLOC_ARENA_MAX": "1"}
    for images in (256, 1024, 4096):
        command = [sys.executable, __file__, "memory", "--images", str(images)]
        command += ["--chunk-size", str(arguments.chunk_size), "--side", str(arguments.side)]
        answer = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        print(f"| {images} | {answer.stdout.strip()} |", flush=True)


def peak_of_recompute(num_images: int, arguments: argparse.Namespace) -> float:
    torch.set_num_threads(arguments.threads)
    network = small_resnet()
    images, labels = batch(num_images, arguments.side)
    three_stages(network, images[:32], labels[:32], 16, "recompute")  # code and threads

    def step() -> None:
        three_stages(network, images, labels, arguments.chunk_size, "recompute")

    descriptors = 3 * num_images * 128 * 4 / 2**20  # each chunk's, gathered, and their gradient
    return grown_mib(step, images.device) - descriptors


def workers(arguments: argparse.Namespace) -> None:
    """One worker and two, one thread each, on the same global batch; and two who share nothing."""
    kinds = {"1": (1, False), "2": (2, False), "2, each for itself": (2, True)}
    rounds = [
        {name: min(on_workers(*kind, arguments)) for name, kind in kinds.items()} for _ in range(3)
    ]
    print("| workers | seconds a step | speed-up |")
    print("|---|---|---|")
    for name in kinds:
        seconds = statistics.median(times[name] for times in rounds)
        faster = statistics.median(times["1"] / times[name] for times in rounds)
        print(f"| {name} | {seconds:.2f} | {faster:.2f} |")


def on_workers(number: int, is_alone: bool, arguments: argparse.Namespace) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(worker, (number, is_alone, folder, arguments), nprocs=number)  # type: ignore[attr-defined, no-untyped-call]
        return [float(s) for s in Path(folder, "seconds").read_text().split()]


def worker(
    rank: int, number: int, is_alone: bool, folder: str, arguments: argparse.Namespace
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=number,
        timeout=datetime.timedelta(seconds=120),
    )
    network, (images, labels) = small_resnet(), batch(512, arguments.side)
    rows = own_rows(512, arguments.chunk_size, Workers().rank, number)
    group = [dist.new_group([each]) for each in range(number)][rank] if is_alone else None
    seconds = []
    for _ in range(arguments.repeats + 1):
        dist.barrier()
        started = time.perf_counter()
        three_stages(
            *(network, images[rows], labels[rows], arguments.chunk_size, "recompute"), group
        )
        dist.barrier()
        seconds.append(time.perf_counter() - started)
    if rank == 0:
        Path(folder, "seconds").write_text(" ".join(map(str, seconds[1:])))
    dist.destroy_process_group()


def share(arguments: argparse.Namespace) -> None:
    """Stage 2 as a share of a step of ResNet-50 at 224 px with 4,096 images."""
    torch.set_num_threads(arguments.threads)
    network = DescriptorNet(ModelConfig(backbone="resnet50", dim=2048)).train()
    images, labels = batch(16, 224)
    loss = AveragePrecisionLoss()
    options = StepOptions(loss=loss, chunk_size=16, seed=SEED)
    results = [global_step(network, images, labels, options, step=i) for i in range(3)][1:]
    passes = min(r.seconds.describe + r.seconds.backprop for r in results) * 4096 / 16
    descriptors = normalize(torch.randn(4096, 2048), dim=1)

    def score() -> None:
        score_own_rows(
            loss,
            descriptors,
            torch.arange(4096) // 4,
            slice(0, 4096),
            sum_over_workers=lambda sums: sums,
            gather_rows=lambda slopes: slopes,
        )

    scoring = fastest({"score": score}, arguments.repeats, descriptors.device)["score"].wall
    print(f"passes over 4,096 images: {passes:.0f} s (16 timed); loss: {scoring:.2f} s;")
    print(f"its share: {100 * scoring / (scoring + passes):.2f} %")


def three_stages(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    chunk_size: int,
    mode: Activations,
    group: dist.ProcessGroup | None = None,
) -> None:
    options = StepOptions(
        loss=AveragePrecisionLoss(),
        chunk_size=chunk_size,
        seed=SEED,
        activations=mode,
        group=group,
    )
    global_step(network, images, labels, options, step=0)
    network.zero_grad()


def small_resnet() -> DescriptorNet:
    """A ResNet of one block a stage, batch norm frozen."""
    torch.manual_seed(SEED)
    network = DescriptorNet(ModelConfig(backbone="resnet18", dim=128))
    network.backbone = ResNet(BasicBlock, (1, 1, 1, 1)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.train()


def batch(num_images: int, side: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(SEED)
    shape = (num_images, 3, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return images, torch.arange(num_images) // 4


if __name__ == "__main__":
    main()
