"""Cost of a million distractors in Parquet files, in units of the matrix product they need.

    python benchmarks/distractors.py --rows 1000000 --dim 512 --queries 70 --threads 2

A unit is the product of the queries and as many rows by `torch.mm` in float32, out of memory and in
parts of 4,096 rows; CPU time is what other work on the machine disturbs least. Memory is the most
that the process had, libraries and all. The files are written first, and lie in the page cache
where it is large enough.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measuring import Work, fastest
from torch.nn.functional import normalize

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.retrieval.descriptor_tables import open_tables
from apdist.retrieval.protocols.searching import score_judged
from apdist.retrieval.ranks import IMAGES_PER_TILE

ROWS_PER_FILE = 50_000
IN_MEMORY = 1 << 16
"""Rows of the bare product's database, which is gone through again and again."""


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.rounds} rounds")
    print("| queries | rows | d | seconds | products | products, CPU time | of it reading | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        write_tables(folder, arguments.rows, arguments.dim)
        for number in arguments.queries:
            compare(folder, number, arguments)


def compare(folder: str, num_queries: int, arguments: argparse.Namespace) -> None:
    """Print the line of so many queries."""
    queries, database, keys, truth = judged_set(num_queries, arguments.dim)
    tables = open_tables(folder, width=arguments.dim, model_id="random")
    images = normalize(torch.randn(min(IN_MEMORY, arguments.rows), arguments.dim), dim=1)
    out = torch.empty(num_queries, IMAGES_PER_TILE)

    def product() -> None:
        for done in range(0, arguments.rows, IMAGES_PER_TILE):
            left = done % len(images)
            part = images[left : left + IMAGES_PER_TILE]
            torch.mm(queries, part.T, out=out[:, : len(part)])

    def read() -> None:
        assert sum(len(part) for part in tables.parts()) == arguments.rows

    def score() -> None:
        score_judged(queries, database, keys, truth, distractors=tables.parts())

    score_judged(queries, database, keys, truth)  # compiles
    works: dict[str, Work] = {"product": product, "read": read, "score": score}
    spent = fastest(works, arguments.rounds, queries.device)
    unit, reading, scoring = (spent[name] for name in works)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {num_queries:,} | {arguments.rows:,} | {arguments.dim} | {scoring.wall:.2f} "
        f"| {scoring.wall / unit.wall:.2f} | {scoring.cpu / unit.cpu:.2f} "
        f"| {reading.cpu / unit.cpu:.2f} | {most:,.0f} |",
        flush=True,
    )


def judged_set(
    num_queries: int, dim: int
) -> tuple[torch.Tensor, torch.Tensor, list[str], GroundTruth]:
    """Queries and a database of 5,000 unit vectors, with 50 positives and 20 junk images each."""
    generator = torch.Generator().manual_seed(0)
    database = torch.randn(5000, dim, generator=generator)
    queries = torch.randn(num_queries, dim, generator=generator)
    keys = [f"i{row}" for row in range(len(database))]
    judged = []
    for number in range(num_queries):
        rows = torch.randperm(len(database), generator=generator)[:70].tolist()
        database[rows[:50]] += 0.2 * queries[number]
        names = [keys[row] for row in rows]
        query = JudgedQuery(key=f"q{number}", positives=(*names[:50],), junk=(*names[50:],))
        judged.append(query)
    truth = GroundTruth(protocol="own", queries=tuple(judged))
    return normalize(queries, dim=1), normalize(database, dim=1), keys, truth


def write_tables(folder: str, num_rows: int, dim: int) -> None:
    """Random unit vectors, as `apdist extract` writes descriptors."""
    random = np.random.default_rng(0)
    for left in range(0, num_rows, ROWS_PER_FILE):
        count = min(ROWS_PER_FILE, num_rows - left)
        rows = random.standard_normal((count, dim), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), dim)
        model = pa.array(["random"] * count).dictionary_encode()
        table = pa.table({"model": model, "descriptor": values})
        pq.write_table(table, Path(folder, f"{left:09d}.parquet"))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--queries", type=int, nargs="+", default=[70])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where the files are written; default: the system's own")
    return parser.parse_args()


if __name__ == "__main__":
    main()
