"""TPE against random search: how far below the best setting each comes with one budget.

Trainings of characters fill a table over learning rate, bins and dimensions. In it both search,
many times with other seeds, as trainings for all of these would take days: what lies between two
rates of the table is interpolated. A figure is mAP on held-out classes, of the saved weights.
"""

import argparse
import itertools
import json
import math
import statistics
import tempfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from apdist.config import override
from apdist.training.events import Evaluated, Event
from apdist.training.job import Job
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.runs import create_run, whole_history
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.searchers import Params, Told, draw
from apdist.training.worker import train
from apdist_verbs.prepare.glyphs import PrepareGlyphs, prepare_glyphs
from apdist_verbs.presets import preset

RATES = [10 ** (exponent / 2) for exponent in range(-8, 1)]
BINS, DIMS = [5, 40], [8, 64]
SPACE = [
    Dimension("training.learning_rate", "loguniform", RATES[0], RATES[-1]),
    Dimension("loss.num_bins", "choice", values=tuple(BINS)),
    Dimension("model.dim", "choice", values=tuple(DIMS)),
]
SEARCHERS = ("random", "tpe")
Table = dict[tuple[float, int, int], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--table", type=Path, default=Path("searchers.json"), help="made if missing"
    )
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--budgets", type=int, nargs="+", default=[15, 20, 30, 40])
    given = parser.parse_args()
    if not given.table.exists():
        given.table.write_text(json.dumps(trained_table(given.steps)))
    table = {(r, b, d): value for r, b, d, value in json.loads(given.table.read_text())}
    best = max(table.values())
    print(f"{len(table)} trainings: mAP {min(table.values()):.4f} to {best:.4f}")
    ways = {
        way: [searched(way, table, s, max(given.budgets)) for s in range(given.seeds)]
        for way in SEARCHERS
    }
    print("| settings | random: below the best | TPE: below the best | TPE ahead | behind |")
    print("|---|---|---|---|---|")
    for budget in given.budgets:
        reached = {way: [max(found[:budget]) for found in ways[way]] for way in SEARCHERS}
        pairs = list(zip(reached["tpe"], reached["random"], strict=True))
        ahead, behind = sum(t > r for t, r in pairs), sum(t < r for t, r in pairs)
        columns = [spread([best - value for value in reached[way]]) for way in SEARCHERS]
        print(f"| {budget} | {' | '.join(columns)} | {ahead} | {behind} |")


def spread(values: list[float]) -> str:
    """Mean, and the range that nine in ten lie in."""
    parts = statistics.quantiles(values, n=20)
    return f"{statistics.fmean(values):.4f} ({parts[0]:.4f} to {parts[-1]:.4f})"


def searched(searcher: str, table: Table, seed: int, budget: int) -> list[float]:
    """What each setting came to, in the order in which it was drawn."""
    told: list[Told] = []
    while len(told) < budget:
        params = draw(searcher, SPACE, seed, told)
        assert params is not None
        told.append(Told(params, (looked_up(table, params),)))
    return [value for each in told for value in each.values]


def looked_up(table: Table, params: Params) -> float:
    """Between two rates the straight line over their logarithm."""
    rate, bins, dim = (params[dimension.name] for dimension in SPACE)
    place = 2 * math.log10(rate) + 8
    low = min(int(place), len(RATES) - 2)
    left, right = (table[RATES[at], bins, dim] for at in (low, low + 1))
    return left + (place - low) * (right - left)


def trained_table(steps: int) -> list[tuple[float, int, int, float]]:
    """The figure of each setting of the grid."""
    with tempfile.TemporaryDirectory() as folder:
        shards = str(Path(folder, "glyphs"))
        prepare_glyphs(PrepareGlyphs(out=shards, images_per_glyph=8, min_typefaces=16))
        settings = list(itertools.product(RATES, BINS, DIMS))
        tasks = [(folder, shards, steps, setting) for setting in settings]
        with get_context("spawn").Pool(2) as pool:
            values = pool.map(figure_of, tasks, chunksize=1)
    return [(*setting, value) for setting, value in zip(settings, values, strict=True)]


def figure_of(task: tuple[str, str, int, tuple[float, int, int]]) -> float:
    """Train a setting in this process; its mAP, 0 where it ends in values that are not finite."""
    folder, shards, steps, (rate, bins, dim) = task
    torch.set_num_threads(1)
    options: dict[str, Any] = {
        "data.shards": shards,
        "data.image_size": 32,
        "data.loader_threads": 1,
        "training.batch_size": 64,
        "training.chunk_size": 32,
        "training.steps": steps,
        "training.learning_rate": rate,
        "loss.num_bins": bins,
        "model.dim": dim,
        "evaluation.every_steps": steps,
        "checkpoint.every_steps": steps + 1,
        "ray.num_workers": 0,
        "run.output": folder,
        "run.name": f"{rate:g} {bins} {dim}",
    }
    run = create_run(override(preset("glyphs"), options), "glyphs")
    try:
        train(Job(run.config, run.uri, is_trial=True), Mailbox[Event](), torch.device("cpu"))
    except ValueError as error:
        print(f"{run.name}: {error}")
        return 0.0
    measured = [e for e in whole_history(run.uri) if isinstance(e, Evaluated) and e.weights]
    return measured[-1].figures["map"]


if __name__ == "__main__":
    main()
