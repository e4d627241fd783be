"""One self-contained HTML page about a run: figures, curves, queries with their results."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apdist.figures import EVALUATION, followed
from apdist.report.charts import draw
from apdist.report.curves import (
    evaluation_charts,
    score_charts,
    similarity_chart,
    training_charts,
)
from apdist.report.gallery import RankedImage, RankedQuery, choose_queries
from apdist.report.gallery_picture import write_gallery_png
from apdist.report.key_figures import key_figures, what_counted
from apdist.report.page import page_template
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
    facts: dict[str, str]
    """What else is worth knowing, e.g. "training time": "1 min 52 s"."""
    next_commands: tuple[tuple[str, str], ...]
    """What for, and the command."""


def write_report(report: Report, path: Path) -> None:
    """Write the page, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(render_report(report), encoding="utf-8")
    temporary.replace(path)


def render_report(report: Report) -> str:
    """The page as HTML; undecodable bytes of a file's name become question marks."""
    charts = [
        *score_charts(report.before, report.after),
        *evaluation_charts(report.evaluations),
        *training_charts(report.history),
        similarity_chart(report.similarities),
    ]
    measures, rows = followed(EVALUATION), report.evaluations
    page = page_template().render(
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
    return page.encode("utf-8", "replace").decode("utf-8")
