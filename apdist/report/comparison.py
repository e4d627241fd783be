"""One self-contained HTML page about several runs: figures, curves, options, changed queries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from apdist.figures import EVALUATION, Seen, measure
from apdist.report.charts import Chart, Series, draw
from apdist.report.curves import (
    column,
    compared_training_charts,
    precision_recall,
    sorted_precision,
)
from apdist.report.gallery import RankedImage
from apdist.report.page import render
from apdist.report.pictures import Picture
from apdist.retrieval.metrics import RetrievalScores

LOOKS = ("before", "after", "second", "third", "fourth", "fifth")
"""Of the lines of the runs; there can be no more of them."""


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run beside others."""

    letter: str
    """A, B, ...: names of folders need not differ."""
    name: str
    uri: str
    summary: str
    """Its network and how it was trained."""
    images: str
    """What it was measured on, in words."""
    is_alike: bool
    """Whether it was measured on the images of the first run."""
    settings: dict[str, str]
    """Dotted option name to value."""
    scores: RetrievalScores
    history: list[dict[str, float]]
    """Per training step: step, loss and others."""
    evaluations: list[dict[str, Any]]
    """Per evaluation: split, step, map and others."""

    @property
    def title(self) -> str:
        """Letter and name."""
        return f"{self.letter} {self.name}"

    @property
    def against_first(self) -> str:
        """Heading of its differences from the first run."""
        return f"{self.letter} \N{MINUS SIGN} A"


@dataclass(frozen=True, kw_only=True)
class RankedList:
    """What a run found for a query."""

    letter: str
    average_precision: float
    results: tuple[RankedImage, ...]
    """Best first."""


@dataclass(frozen=True, kw_only=True)
class ChangedQuery(Picture):
    """A query that runs differ on."""

    row: int
    """By which the page links to it."""
    lists: tuple[RankedList, ...]
    """Of each run that was measured on the same images."""
    group: str
    """Heading that it appears under."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that the page shows."""

    runs: tuple[ComparedRun, ...]
    queries: tuple[ChangedQuery, ...]
    """Those that changed most, in the order of display."""
    counts: tuple[str, ...]
    """How many queries are better in which run, in words."""
    max_bytes: int
    """Of the page: its pictures are made to fit."""


def choose_changed(precision: Tensor, *, num_each: int) -> list[tuple[int, int]]:
    """Run and row of up to ``num_each`` queries that are best in that run, none twice.

    Args:
        precision: (r, q) AP of each query in each run; NaN where undefined.
        num_each: queries of each run, those first whose AP differs most between the runs.
    """
    spread = (precision.amax(dim=0) - precision.amin(dim=0)).nan_to_num(0.0)  # (q,)
    best = precision.nan_to_num(0.0).argmax(dim=0)
    order = spread.sort(descending=True, stable=True).indices
    chosen = []
    for run in range(len(precision)):
        rows = order[(best[order] == run) & (spread[order] > 0)]
        chosen += [(run, row) for row in rows[:num_each].tolist()]
    return chosen


def count_best(precision: Tensor) -> list[int]:
    """How many queries each run is alone the best of; (r, q) AP, NaN where undefined."""
    top = precision.amax(dim=0)  # (q,) NaN where undefined
    alone = (precision == top).sum(dim=0) == 1
    return ((precision == top) & alone).sum(dim=1).tolist()


def differing_settings(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Values of the options in which runs differ."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name, "") for run in runs] for name in names}
    return {name: found for name, found in values.items() if len(set(found)) > 1}


def figure_rows(runs: Sequence[ComparedRun]) -> list[tuple[str, list[float | None]]]:
    """Each figure by its label, of each run."""
    columns = [measure(EVALUATION, run.scores, Seen.REPORT) for run in runs]
    figures = dict.fromkeys(figure for column in columns for figure in column)
    return [(figure.label, [column.get(figure) for column in columns]) for figure in figures]


def compared_charts(runs: Sequence[ComparedRun]) -> list[Chart]:
    """The curves of all runs over each other."""
    looks = list(zip(runs, LOOKS, strict=False))
    splits = dict.fromkeys(row["split"] for run in runs for row in run.evaluations)
    charts = [
        _of_all(
            "Precision and recall",
            "Best precision at each recall or more, mean over queries.",
            "recall",
            [Series(name=r.title, points=precision_recall(r.scores), look=k) for r, k in looks],
        ),
        _of_all(
            "AP of every query",
            "Queries from worst to best: how many fail, not only the mean.",
            "share of queries",
            [Series(name=r.title, points=sorted_precision(r.scores), look=k) for r, k in looks],
        ),
    ]
    for split in splits:
        lines = [
            Series(
                name=run.title,
                points=column([row for row in run.evaluations if row["split"] == split], "map"),
                look=look,
            )
            for run, look in looks
        ]
        charts.append(
            _of_all(f"mAP: {split}", "Of unseen images, as training went on.", "step", lines)
        )
    charts += compared_training_charts([(run.title, run.history, look) for run, look in looks])
    return charts


def _of_all(title: str, note: str, x_label: str, lines: Sequence[Series]) -> Chart:
    return Chart(title=title, note=note, x_label=x_label, series=tuple(lines))


def render_comparison(comparison: Comparison) -> tuple[str, tuple[str, ...]]:
    """The page as HTML, and in words what its limit of bytes took away."""
    runs = comparison.runs
    return render(
        "comparison.html",
        list(_pictures(comparison)),
        [],
        comparison.max_bytes,
        comparison=comparison,
        rows=figure_rows(runs),
        differing=differing_settings(runs),
        drawings=[drawing for chart in compared_charts(runs) if (drawing := draw(chart))],
    )


def _pictures(comparison: Comparison) -> Iterator[Picture]:
    """Queries first, then results by their rank."""
    yield from comparison.queries
    lists = [ranked.results for query in comparison.queries for ranked in query.lists]
    for place in range(max(map(len, lists), default=0)):
        yield from (results[place] for results in lists if place < len(results))
