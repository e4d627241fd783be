"""Searching an index: how fast, against exact search and against faiss, and how much is found.

    python benchmarks/search.py --rows 1000000 --dim 256 --threads 2
    python benchmarks/search.py --rows 1000000 --dim 256 --threads 2 --kinds exact flat

Descriptors of classes of 50 images; queries are further images of these classes. Rounds alternate
between the kinds, and the fastest of each counts. The recall of a query is the share of its ten
nearest images, an image as near as the last of them counting as found; `stored` is what the index
measured of itself when it was built. Memory is the most that the process had.
"""

from __future__ import annotations

import argparse
import functools
import resource
import time

import pyarrow as pa
import torch
from measuring import Work, fastest
from torch import Tensor
from torch.nn.functional import normalize

from apdist.retrieval.index import KINDS, build_index
from apdist.retrieval.search_index import SearchIndex

IMAGES_OF_A_CLASS = 50
DEPTH = 10


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    limit_faiss(arguments.threads)
    images, queries = descriptors(arguments)
    entries = pa.table({"key": pa.array(range(len(images)))})
    indexes: dict[str, SearchIndex] = {}
    seconds: dict[str, float] = {}
    for kind in dict.fromkeys(["exact", *arguments.kinds]):
        start = time.perf_counter()
        indexes[kind] = build_index(images, entries, kind=kind, model_id="benchmark")
        seconds[kind] = time.perf_counter() - start
        print(f"{kind}: built in {seconds[kind]:.0f} s", flush=True)
        indexes[kind].search(queries[:8], DEPTH)  # compiles
    exact_scores, _ = indexes["exact"].search(queries, DEPTH)
    for k in arguments.results:
        works: dict[str, Work] = {
            kind: functools.partial(index.search, queries, k) for kind, index in indexes.items()
        }
        spent = fastest(works, arguments.rounds, torch.device("cpu"))
        print(f"\n{len(images)} images, {len(queries)} queries, the nearest {k}")
        print(
            "| kind | built in s | ms a query | times exact | times exact, CPU time | recall@10 "
            "| stored | settings |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for kind, index in indexes.items():
            scores, _ = index.search(queries, DEPTH)
            recall = (scores >= exact_scores[:, -1:]).double().mean()
            chosen = {n: v for n, v in index.settings.items() if n.startswith(("num_", "search_"))}
            wall = spent[kind].wall
            cpu = spent["exact"].cpu / spent[kind].cpu
            print(
                f"| {kind} | {seconds[kind]:.0f} | {wall / len(queries) * 1e3:.3f} "
                f"| {spent['exact'].wall / wall:.2f} | {cpu:.2f} | {recall:.4f} "
                f"| {index.settings['recall_at_10']:.4f} | {chosen} |",
                flush=True,
            )
    print(f"\nmost memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


def descriptors(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Images (n, d) and queries (q, d) of the same classes."""
    generator = torch.Generator().manual_seed(0)
    num_classes = -(-arguments.rows // IMAGES_OF_A_CLASS)
    centres = normalize(torch.randn(num_classes, arguments.dim, generator=generator), dim=1)

    def images_of(classes: Tensor) -> Tensor:
        noise = torch.randn(len(classes), arguments.dim, generator=generator)
        noise *= arguments.spread / arguments.dim**0.5
        return normalize(noise.add_(centres[classes]), dim=1)

    images = images_of(torch.arange(arguments.rows) % num_classes)
    chosen = torch.randint(num_classes, (arguments.queries,), generator=generator)
    return images, images_of(chosen)


def limit_faiss(threads: int) -> None:
    """Let faiss use as many threads as torch does."""
    from apdist.retrieval.approximate.importing import has_faiss, import_faiss

    if has_faiss():
        import_faiss().omp_set_num_threads(threads)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--spread", type=float, default=0.8, help="length of the noise of an image")
    parser.add_argument("--results", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["flat", "ivf", "ivf_pq"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
