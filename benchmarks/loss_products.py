"""Cost of the listwise loss, forward and backward, in units of the matrix product it contains.

    python benchmarks/loss_products.py --sizes 2048 4096 --dims 512 2048 --threads 2
    python benchmarks/loss_products.py --sizes 32768 131072 --device cuda --plain --bf16x3 --large

A unit is one n x n x d product by `torch.mm` in float32, in the same process with the same
threads; where the scores would take more than 4 GiB, of a part of the rows, and multiplied. Memory
is what the first step of that size needs above the descriptors and their gradient.
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import torch
from measuring import Work, fastest, grown_mib
from torch import Tensor
from torch.nn.functional import conv1d, normalize

from apdist.config.loss import Backend
from apdist.loss.batch_loss import BatchLoss
from apdist.loss.gradient import score_own_rows
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.metric_learning import metric_learning

# A part of the n x n scores that is enough to time a product by.
UNIT_BYTES = 2**32
# A byte a pair of more images than these is more than the memory of most devices.
MOST_OF_A_DEVICE = 200_000


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    where = f"{arguments.threads} threads"
    if arguments.device == "cuda":
        where = torch.cuda.get_device_name()
    print(f"torch {torch.__version__}, {where}, best of {arguments.repeats}")
    print("| loss | n | d | seconds | products | products, CPU time | MiB |")
    print("|---|---|---|---|---|---|---|")
    for num_images in arguments.sizes:
        for size in arguments.dims:
            compare(num_images, size, arguments)
    if arguments.large:
        compare(1_000_000, 512, arguments)


def compare(num_images: int, size: int, arguments: argparse.Namespace) -> None:
    """Print the lines of one batch."""
    descriptors, labels = batch(num_images, size, arguments.device)
    compared = losses(num_images, arguments)
    steps = {name: step_of(loss, descriptors, labels) for name, loss in compared.items()}
    gradient_mib = descriptors.numel() * descriptors.element_size() / 2**20
    memory = {
        name: grown_mib(step, descriptors.device) - gradient_mib for name, step in steps.items()
    }
    num_rows = min(num_images, max(1, UNIT_BYTES // (4 * num_images)))
    scores = descriptors.new_empty(num_rows, num_images)
    works: dict[str, Work] = {
        "torch.mm": lambda: torch.mm(descriptors[:num_rows], descriptors.T, out=scores),
        **steps,
        "own half of the rows": rows_step(descriptors, labels, arguments),
    }
    seconds = fastest(works, arguments.repeats, descriptors.device)
    unit = seconds["torch.mm"].times(num_images / num_rows)
    seconds["torch.mm"] = unit
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
    parser.add_argument("--tile-size", type=int, help="by default as the backend chooses")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--backend", choices=["auto", "tiled", "numba", "triton"], default="auto")
    parser.add_argument(
        "--large", action="store_true", help="also n = 1,000,000, d = 512: for a GPU"
    )
    parser.add_argument("--bf16x3", action="store_true", help="also products in bf16x3: on a GPU")
    parser.add_argument("--plain", action="store_true", help="also the passes in plain torch")
    parser.add_argument(
        "--published", action="store_true", help="also the published formulation: O(n^2 M) memory"
    )
    parser.add_argument("--dense", action="store_true", help="also the definition: O(n^2 M) memory")
    parser.add_argument("--peers", action="store_true", help="also pytorch-metric-learning")
    arguments = parser.parse_args()
    arguments.tile_size = arguments.tile_size or "auto"
    return arguments


def losses(num_images: int, arguments: argparse.Namespace) -> dict[str, BatchLoss]:
    """What is compared, by the name it has in the table."""

    def passes(backend: Backend = arguments.backend, **options: Any) -> AveragePrecisionLoss:
        options = {"cache_mib": 0, "tile_size": arguments.tile_size} | options
        return AveragePrecisionLoss(backend=backend, **options)

    found: dict[str, BatchLoss] = {"no n^2 storage": passes()}
    if arguments.bf16x3:
        found["no n^2 storage, bf16x3"] = passes(precision="bf16x3")
    if num_images > MOST_OF_A_DEVICE:
        return found
    found["a byte a pair"] = passes(cache_mib=(2 * num_images**2 >> 20) + 1)
    if arguments.plain:
        found["plain torch"] = passes("tiled", tile_size="auto")
    if arguments.published:
        found["published formulation"] = published
    if arguments.dense:
        found["definition"] = AveragePrecisionLoss(backend="dense")
    if arguments.peers and importlib.util.find_spec("pytorch_metric_learning"):
        found["FastAPLoss"] = metric_learning(
            "FastAPLoss", torch.arange(1), 1, arguments=("num_bins=19",)
        )
    return found


def published(descriptors: Tensor, labels: Tensor, num_bins: int = 20) -> Tensor:
    """The loss as the paper's code forms it: a convolution with two lines per bin, and autograd."""
    slope = (num_bins - 1) / 2
    weights = descriptors.new_empty(2 * num_bins, 1, 1)
    offsets = descriptors.new_empty(2 * num_bins)
    weights[:num_bins], weights[num_bins:] = -slope, slope
    offsets[:num_bins] = torch.arange(num_bins, 0, -1) - slope
    offsets[num_bins:] = torch.arange(2 - num_bins, 2) + slope
    weights[0], weights[-1], offsets[0], offsets[-1] = 0, 0, 1, 1
    lines = conv1d((descriptors @ descriptors.T)[:, None], weights, offsets)  # (n, 2M, n)
    shares = torch.min(lines[:, :num_bins], lines[:, num_bins:]).clamp(min=0)  # (n, M, n)
    same = (labels[:, None] == labels).to(shares.dtype)
    positives, everything = (shares * same[:, None]).sum(dim=2), shares.sum(dim=2)  # (n, M)
    precision = positives.cumsum(dim=1) / (1e-16 + everything.cumsum(dim=1))
    recall = positives / positives.sum(dim=1, keepdim=True)
    return 1 - (precision * recall).sum(dim=1).mean()


def batch(num_images: int, size: int, device: str) -> tuple[Tensor, Tensor]:
    """Unit vectors in classes of four, half signal and half noise."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_images) // 4
    centres = torch.randn(num_images // 4 + 1, size, generator=generator)
    noise = torch.randn(num_images, size, generator=generator)
    return normalize(centres[labels] + noise, dim=1).to(device), labels.to(device)


def step_of(loss: BatchLoss, descriptors: Tensor, labels: Tensor) -> Work:
    """Forward and backward of ``loss``, once done on a small batch to compile and start threads."""

    def step(num_images: int = len(descriptors)) -> None:
        leaf = descriptors[:num_images].detach().requires_grad_()
        loss(leaf, labels[:num_images]).backward()

    step(512)
    return step


def rows_step(descriptors: Tensor, labels: Tensor, arguments: argparse.Namespace) -> Work:
    """What the first of two workers does: its own rows against all, nothing exchanged."""
    loss = AveragePrecisionLoss(
        tile_size=arguments.tile_size, cache_mib=0, backend=arguments.backend
    )
    rows = slice(0, len(descriptors) // 2)

    def step() -> None:
        score_own_rows(
            loss,
            descriptors,
            labels,
            rows,
            sum_over_workers=lambda sums: sums,
            gather_rows=lambda slopes: slopes.repeat(2, 1, 1),
        )

    return step


if __name__ == "__main__":
    main()
