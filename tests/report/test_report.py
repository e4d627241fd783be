"""The report: what it shows, that it is self-contained and well formed, charts and the picture."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from apdist.report.report import (
    write_gallery_png,
    write_report,
)
from tests.report.pages import Page, rendered, report


def test_the_page_shows_figures_settings_facts_and_commands() -> None:
    shown = report()
    page = Page(rendered(shown))
    assert shown.before is not None
    for expected in (
        "Run of apple",
        "Found apple.",
        "What to look at",
        "mAP of apple fell",
        f"{shown.after.mean_average_precision:.3f}",
        f"{shown.after.mean_average_precision:.4f}",
        f"{shown.before.recall_at[1]:.4f}",
        "loss.num-bins",
        "1 min 52 s",
        "apdist search apple",
        "Precision and recall",
        "Loss",
        "Binned mAP",
        "Evaluation",
        "Throughput",
        "Worst queries",
        "Other sets, first against last",
        "apple (revisited, 70 queries): mAP (trapezoid), medium fell by 0.3000",
        "0.583",
        "0.910",
        "a/0.png",
        "key key-p/1.jpg",
        "▼ fell from 0.750, \N{MINUS SIGN}0.167",
        " of 2 queries, 50.0%",
        "60 queries counted. mAP@k divides by min(k, number of positives).",
    ):
        assert expected in page.words


def test_every_image_and_chart_has_a_text_and_every_column_a_header() -> None:
    page = Page(rendered(report()))
    drawn = [svg for svg in page.attributes("svg") if svg.get("role") == "img"]
    assert all(image.get("aria-label") for image in drawn)
    charts = [svg for svg in drawn if "data-file" not in svg]
    assert len(charts) == 7
    assert all(chart["aria-label"] for chart in charts)
    assert "Loss, over step: Loss from 1 at 1 to" in str(charts[3]["aria-label"])
    scopes = {header.get("scope") for header in page.attributes("th")}
    assert scopes == {"col", "row", "rowgroup"}


def test_a_report_without_before_history_and_gallery_is_a_whole_page() -> None:
    bare = replace(
        report(),
        before=None,
        notices=(),
        history=[],
        evaluations=[],
        similarities=[],
        gallery=(),
        classes=None,
        confusions=(),
        map=None,
        facts={},
        next_commands=(),
    )
    page = Page(rendered(bare))
    assert len([svg for svg in page.attributes("svg") if svg.get("role") == "img"]) == 2
    assert "Queries and their results" not in page.words
    assert "Go on from here" not in page.words
    assert "What to look at" not in page.words


def test_values_that_are_not_finite_are_not_drawn() -> None:
    history = [{"step": t, "loss": math.nan if t == 3 else 1.0 / t} for t in range(1, 9)]
    text = rendered(replace(report(), history=history))
    assert "nan" not in text.lower().split("</style>")[1].split("gallery")[0]
    assert "Binned mAP" not in Page(text).words


def test_the_report_is_written_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "a folder ü" / "report.html"
    path.parent.mkdir()
    write_report(report(), path)
    assert path.read_text(encoding="utf-8") == rendered(report())
    assert list(path.parent.iterdir()) == [path]


def test_a_picture_of_no_query_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one query"):
        write_gallery_png([], tmp_path / "gallery.png")
    assert list(tmp_path.iterdir()) == []
