"""One self-contained HTML page about a run: figures, curves, queries with their results."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apdist.figures import EVALUATION, followed
from apdist.report.charts import draw
from apdist.report.classes import ClassTable, Confusion
from apdist.report.curves import (
    evaluation_charts,
    score_charts,
    similarity_chart,
    training_charts,
)
from apdist.report.embedding_map import EmbeddingMap
from apdist.report.gallery import RankedImage, RankedQuery, choose_queries
from apdist.report.gallery_picture import write_gallery_png
from apdist.report.key_figures import key_figures, what_counted
from apdist.report.page import render
from apdist.report.pictures import Picture
from apdist.report.set_changes import set_changes
from apdist.retrieval.metrics import RetrievalScores

__all__ = [
    "RankedImage",
    "RankedQuery",
    "Report",
    "choose_queries",
    "render_report",
    "write_gallery_png",
    "write_report",
]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that the page shows."""

    title: str
    """Heading."""
    summary: str
    """One line below it."""
    settings: dict[str, str]
    """Dotted option name to value."""
    before: RetrievalScores | None
    """Scores before training; None where there was none."""
    after: RetrievalScores
    """Scores of the model reported on."""
    history: list[dict[str, float]]
    """Per training step: step, loss, binned_map, images_per_s, learning_rate."""
    evaluations: list[dict[str, Any]]
    """Per evaluation: split, step, map, recall_at_1, r_precision."""
    sets: list[dict[str, Any]]
    """Per measurement of a set beside the run's own: what `set_changes` takes."""
    similarities: list[dict[str, Any]]
    """Per evaluation: step, centres of bins, and the shares of positive and negative pairs."""
    notices: tuple[str, ...]
    """What went wrong in the training, and what to change."""
    gallery: tuple[RankedQuery, ...]
    """Queries in the order of display."""
    classes: ClassTable | None
    """How well each is found."""
    confusions: tuple[Confusion, ...]
    """Classes that are taken for others, most first."""
    map: EmbeddingMap | None
    """The descriptors on a plane."""
    facts: dict[str, str]
    """What else is worth knowing, e.g. "training time": "1 min 52 s"."""
    next_commands: tuple[tuple[str, str], ...]
    """What for, and the command."""
    max_bytes: int
    """Of the page: its pictures are made to fit."""


def write_report(report: Report, path: Path) -> tuple[str, ...]:
    """Write the page, whole or not at all; returns in words what its limit of bytes took away."""
    page, notes = render_report(report)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return notes


def render_report(report: Report) -> tuple[str, tuple[str, ...]]:
    """The page as HTML, and in words what its limit of bytes took away."""
    charts = [
        *score_charts(report.before, report.after),
        *evaluation_charts(report.evaluations),
        *training_charts(report.history),
        similarity_chart(report.similarities),
    ]
    measures, rows = followed(EVALUATION), report.evaluations
    return render(
        "page.html",
        list(_pictures(report)),
        report.map.images if report.map else [],
        report.max_bytes,
        report=report,
        figures=key_figures(report.before, report.after),
        caption=what_counted(report.after),
        changes=set_changes(report.sets),
        measures=measures,
        evaluations=[
            (row["split"], row["step"], [row.get(m.key) for m in measures]) for row in rows
        ],
        drawings=[drawing for chart in charts if (drawing := draw(chart))],
    )


def _pictures(report: Report) -> Iterator[Picture]:
    """Those that are looked at: queries first, then results by their rank."""
    yield from report.gallery
    for confusion in report.confusions:
        yield from (confusion.query, confusion.result)
    for place in range(max((len(query.results) for query in report.gallery), default=0)):
        yield from (q.results[place] for q in report.gallery if place < len(q.results))
