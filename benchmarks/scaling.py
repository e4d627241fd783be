"""Bytes and seconds of a step on paper, for clusters that nobody here has.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --workers 8 64 --sizes 65536 --dim 2048

Nothing runs: docs/scaling.md has the formulas, and says which constants were measured.

Sizes: W workers, n images in the global batch, d descriptor size, M bins, P trainable parameters.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

NUM_SCALARS = 7
"""Numbers beside the histograms in the sums of the loss."""
BITS = 62
"""Parameters whose use one number tells."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A step; the defaults are a ResNet-50 at 224 px."""

    sizes: Sequence[int]
    """Images of every worker."""
    dim: int = 2048
    num_bins: int = 20
    num_parameters: int = 25_557_032
    """Trainable numbers that some worker has a gradient of, whole on every worker."""
    num_tensors: int = 161
    """Trainable tensors."""
    item: int = 4
    """Bytes of a number of descriptors and gradients."""
    image_size: int = 224
    encoded: int = 175_000
    """Bytes of an encoded image."""
    run: int = 4
    """Images of a class that one request brings."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What a worker does a second: see docs/scaling.md for where each comes from."""

    images: float = 2129.0
    """Images through all three stages; measured, one H100, bf16, `recompute`."""
    products: float = 49e12
    """Floating-point operations of float32 products; measured on it."""
    loss_factor: float = 2.07
    """The loss of one worker in products of n x n x d, nothing kept; measured on it."""
    network: float = 50e9
    """Bytes received; assumed: 400 Gbit/s."""
    latency: float = 30e-6
    """Of a message between two hosts' CPUs; assumed."""


def bytes_received(case: Case, rank: int) -> dict[str, int]:
    """What worker ``rank`` receives from the others, as `StepResult.num_bytes` counts it."""
    workers, others = len(case.sizes), sum(case.sizes) - case.sizes[rank]
    if workers == 1:
        return dict.fromkeys(("statuses", "descriptors", "labels", "slopes", "sums", "gradient"), 0)
    sums = 8 * (NUM_SCALARS + 2 * case.num_bins)
    told = 5 + 1 + -(-case.num_tensors // BITS)
    return {
        "statuses": 8 * (workers - 1) * told,
        "descriptors": others * case.dim * case.item,
        "labels": others * 8,
        "slopes": others * 2 * (case.num_bins - 1) * case.item,
        "sums": 2 * (workers - 1) * sums // workers,
        "gradient": 2 * (workers - 1) * case.num_parameters * case.item // workers,
    }


def images_and_requests(case: Case, rank: int) -> dict[str, int]:
    """Bytes of images of worker ``rank``, encoded and decoded, and requests to storage."""
    own = case.sizes[rank]
    return {
        "encoded": own * case.encoded,
        "decoded": own * 3 * case.image_size**2,
        "requests": -(-own // case.run),
    }


def seconds(case: Case, rates: Rates) -> dict[str, float]:
    """Seconds of the parts of a step on the first worker, one after the other."""
    workers, total, own = len(case.sizes), sum(case.sizes), case.sizes[0]
    received = bytes_received(case, 0)
    factor = rates.loss_factor if workers == 1 else max(3.0, rates.loss_factor)
    return {
        "images": own / rates.images,
        "gather": (received["descriptors"] + received["labels"]) / rates.network,
        "loss": factor * 2 * own * total * case.dim / rates.products,
        "slopes": received["slopes"] / rates.network,
        "all-reduce": received["gradient"] / rates.network,
        # gloo hands numbers around in a ring.
        "statuses": 2 * (workers - 1) * rates.latency,
    }


def main() -> None:
    """Print a line for every number of workers and size of batch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 65536, 262144, 1048576])
    parser.add_argument("--dim", type=int, default=2048)
    arguments = parser.parse_args()
    print("computed, not run; a worker's MB and seconds in a step")
    for workers in arguments.workers:
        for size in arguments.sizes:
            case = Case(sizes=[size // workers] * workers, dim=arguments.dim)
            print(f"W = {workers}, n = {size:,}, d = {case.dim}")
            received, images = bytes_received(case, 0), images_and_requests(case, 0)
            requests = images.pop("requests")
            print("  MB ", _line({k: v / 1e6 for k, v in (images | received).items()}))
            print(f"  requests {requests:,}")
            print("  s  ", _line(seconds(case, Rates())))


def _line(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


if __name__ == "__main__":
    main()
