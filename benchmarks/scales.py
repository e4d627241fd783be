"""Descriptors of a split at several scales, against the bare forward passes that it takes.

    python benchmarks/scales.py --images 64 --size 512 --threads 2

Work is read, decoded, resized, described at each scale and pooled, as `apdist extract` does it; the
unit passes prepared images of the same shapes through the network at the same scales, in the same
round. A share of 1 would cost nothing beside the network. CPU time is what other work on the
machine disturbs least.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile

import numpy as np
import torch
from measuring import Seconds, fastest
from PIL import Image

from apdist.config import ModelConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.loading.sequential import evaluation_batches, shard_names
from apdist.data.preparing.shards import Encoded, Item, write_shards
from apdist.model.pieces import in_pieces
from apdist.model.pretrained import build_model
from apdist.retrieval.describe import describe_split
from apdist.retrieval.recipe import Recipe, at_scale


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    network = build_model(ModelConfig(backbone=arguments.backbone, dim=512)).eval()
    recipe = Recipe(size=arguments.size, scales=tuple(arguments.scales))
    describes = recipe.of(network)
    fit = recipe.fit(network.fit(224, "longest"))
    with tempfile.TemporaryDirectory() as folder:
        catalogue = photographs(folder, arguments.images)
        prepared = [
            torch.as_tensor(images).clone()
            for _, images in evaluation_batches(
                catalogue,
                fit=fit,
                batch_size=arguments.batch,
                num_threads=2,
                shards=shard_names(catalogue),
            )
        ]

        def bare() -> None:
            with torch.no_grad():
                for images in prepared:
                    for scale in recipe.scales:
                        in_pieces(network, at_scale(images, scale))

        def whole() -> None:
            describe_split(describes, catalogue, fit=fit, progress=lambda _: None)

        rounds = [
            fastest({"bare": bare, "whole": whole}, 1, torch.device("cpu"))
            for _ in range(arguments.rounds)
        ]
    report(arguments, rounds)


def report(arguments: argparse.Namespace, rounds: list[dict[str, Seconds]]) -> None:
    """Print the medians."""
    wall = [spent["bare"].wall / spent["whole"].wall for spent in rounds]
    cpu = [spent["bare"].cpu / spent["whole"].cpu for spent in rounds]
    seconds = statistics.median(spent["whole"].wall for spent in rounds)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds")
    print("| network | longer side | scales | images/s | share of the network | in CPU time |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {arguments.backbone} | {arguments.size} | {len(arguments.scales)} "
        f"| {arguments.images / seconds:.2f} | {statistics.median(wall):.3f} "
        f"({min(wall):.3f} to {max(wall):.3f}) | {statistics.median(cpu):.3f} |"
    )


def photographs(folder: str, number: int) -> Catalogue:
    """JPEGs of 1,024 x 768, all of one class."""
    from io import BytesIO

    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((1024, 768), Image.Resampling.BICUBIC)
    target = BytesIO()
    picture.save(target, "JPEG", quality=90)
    items = [Item(f"{n:04}", 0, "", "test", content=n) for n in range(number)]

    def encoded(_: int) -> Encoded:
        return Encoded(target.getvalue(), "jpg", *picture.size)

    def refused(_: Item, reason: str) -> None:
        raise ValueError(reason)

    return write_shards(items, encoded, folder, shard_bytes=1 << 30, on_refused=refused)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 0.7071, 1.4142])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
