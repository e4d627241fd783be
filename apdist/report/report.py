"""One self-contained HTML page about a run: figures, curves, queries with their results."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apdist.figures import EVALUATION, followed
from apdist.report.charts import render_chart
from apdist.report.curves import (
    evaluation_chart,
    score_charts,
    similarity_chart,
    training_charts,
)
from apdist.report.gallery import RankedImage, RankedQuery, choose_queries, render_gallery, text
from apdist.report.gallery_picture import write_gallery_png
from apdist.report.key_figures import render_cards, render_table
from apdist.report.page_style import STYLE
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

# The page loads nothing and runs nothing, even if a name slipped through unescaped.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


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
    evaluations: list[dict[str, float]]
    """Per evaluation: step, map, recall_at_1, r_precision."""
    similarities: list[dict[str, Any]]
    """Per evaluation: step, centres of bins, and the shares of positive and negative pairs."""
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
    """The page as HTML."""
    sections = (
        _render_head(report),
        _render_curves(report),
        _render_queries(report),
        _render_settings(report),
        _render_next(report),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(report.title)}</title><style>{STYLE}</style></head>"
        f'<body><main class="page">{"".join(sections)}</main></body></html>\n'
    )


def _render_head(report: Report) -> str:
    facts = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>"
        for name, value in report.facts.items()
    )
    return (
        f'<header><p class="eyebrow">apdist report</p><h1>{text(report.title)}</h1>'
        f'<p class="lead">{text(report.summary)}</p></header>'
        f"{render_cards(report.before, report.after)}"
        f"{render_table(report.before, report.after)}"
        f'<dl class="facts">{facts}</dl>'
    )


def _render_curves(report: Report) -> str:
    charts = [
        *score_charts(report.before, report.after),
        evaluation_chart(report.evaluations),
        *training_charts(report.history),
        similarity_chart(report.similarities),
    ]
    return (
        f'<section><h2>Curves</h2><div class="charts">{"".join(map(render_chart, charts))}</div>'
        f"{_evaluation_table(report.evaluations)}</section>"
    )


def _evaluation_table(evaluations: list[dict[str, float]]) -> str:
    if not evaluations:
        return ""
    columns = {figure.key: figure.label for figure in followed(EVALUATION)}
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in columns.values())
    rows = "".join(
        f'<tr><th scope="row">{row["step"]:,.0f}</th>'
        + "".join(_number_cell(row.get(column)) for column in columns)
        + "</tr>"
        for row in evaluations
    )
    return (
        '<details class="card"><summary>Evaluations in numbers</summary><div><table>'
        f'<thead><tr><th scope="col">step</th>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div></details>"
    )


def _number_cell(value: float | None) -> str:
    return f'<td class="number">{"&ndash;" if value is None else f"{value:.4f}"}</td>'


def _render_queries(report: Report) -> str:
    if not report.gallery:
        return ""
    return (
        '<section class="gallery"><h2>Queries and their results</h2>'
        '<p class="intro">Best result first, with its cosine similarity. A solid green frame '
        "with ✓ shows the query's own class, a dashed red frame with ✗ another. AP counts the "
        f"whole ranked list, not only what is shown.</p>{render_gallery(report.gallery)}</section>"
    )


def _render_settings(report: Report) -> str:
    rows = "".join(
        f'<tr><th scope="row"><code>{text(name)}</code></th><td>{text(value)}</td></tr>'
        for name, value in report.settings.items()
    )
    return (
        '<section><h2>What was run</h2><details class="card settings">'
        f"<summary>{len(report.settings)} settings</summary><div><table>"
        '<thead><tr><th scope="col">option</th><th scope="col">value</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details></section>"
    )


def _render_next(report: Report) -> str:
    if not report.next_commands:
        return ""
    items = "".join(
        f'<li class="card">{text(what)}<code>{text(command)}</code></li>'
        for what, command in report.next_commands
    )
    return f'<section><h2>Go on from here</h2><ul class="next">{items}</ul></section>'
