"""Cost of exact scores of labelled descriptors, in units of the matrix product they contain.

    python benchmarks/ranking.py --queries 20000 --images 20000 --dim 512 --threads 2
    python benchmarks/ranking.py --queries 2000 --images 1000000 --dim 64 --threads 2

A unit is the product of queries and database by `torch.mm` in float32, tile by tile where the
scores would take more than 2 GiB, in the same round; medians of the rounds. CPU time is what other
work on the machine disturbs least. Memory is what the process grows by.
"""

from __future__ import annotations

import argparse
import statistics

import torch
from measuring import fastest, grown_mib
from torch import Tensor
from torch.nn.functional import normalize

from apdist.retrieval.metrics import score_queries

UNIT_BYTES = 2**31


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds")
    print("| scores | seconds | products | products, CPU time | lowest to highest | MiB |")
    print("|---|---|---|---|---|---|")
    for name in arguments.kinds:
        compare(name, arguments)


def compare(name: str, arguments: argparse.Namespace) -> None:
    """Print the line of one kind of descriptors."""
    images, labels = database(arguments, name)
    rows = slice(0, arguments.queries)
    if name == "few classes":
        labels = labels % 4
    step = max(1, UNIT_BYTES // (4 * len(images)))
    out = torch.empty(min(step, arguments.queries), len(images))
    out.zero_()

    def product() -> None:
        for start in range(0, arguments.queries, step):
            queries = images[start : min(start + step, arguments.queries)]
            torch.mm(queries, images.T, out=out[: len(queries)])

    def score() -> None:
        score_queries(images[rows], labels[rows], images, labels)

    score_queries(images[:64], labels[:64], images, labels)  # compiles
    mib = grown_mib(score, images.device)
    rounds = [
        fastest({"product": product, "score": score}, 1, images.device)
        for _ in range(arguments.rounds)
    ]
    wall = [spent["score"].wall / spent["product"].wall for spent in rounds]
    cpu = [spent["score"].cpu / spent["product"].cpu for spent in rounds]
    seconds = statistics.median(spent["score"].wall for spent in rounds)
    print(
        f"| {name} | {seconds:.2f} | {statistics.median(wall):.2f} | {statistics.median(cpu):.2f} "
        f"| {min(cpu):.2f} to {max(cpu):.2f} | {mib:.0f} |",
        flush=True,
    )


def database(arguments: argparse.Namespace, name: str) -> tuple[Tensor, Tensor]:
    """Unit vectors (n, d) in classes: half signal and half noise, all noise, or nearly alike."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(arguments.images) // arguments.per_class
    centres = torch.randn(int(labels[-1]) + 1, arguments.dim, generator=generator)
    images = torch.randn(arguments.images, arguments.dim, generator=generator)
    if name != "untrained":
        images += centres[labels]
    return normalize(images * 1e-3 + 1 if name == "alike" else images, dim=1), labels


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queries", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--per-class", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=["labelled", "untrained", "alike", "few classes"],
        default=["labelled"],
        help="untrained: positives score as negatives do; alike: all images are described nearly "
        "alike; few classes: four",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
