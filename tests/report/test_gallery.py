"""Which queries are shown, and how: hits and misses, images as they are."""

from __future__ import annotations

import base64
import math

import torch

from apdist.report.report import (
    choose_queries,
    render_report,
)
from tests.report.pages import Page, picture, report


def test_images_are_embedded_as_they_are() -> None:
    rendered = render_report(report())
    encoded = base64.b64encode(picture("blue", "JPEG")).decode()
    assert f"data:image/jpeg;base64,{encoded}" in rendered


def test_hits_and_misses_differ_in_more_than_colour() -> None:
    page = Page(render_report(report()))
    alternatives = [image["alt"] for image in page.attributes("img")]
    assert "Result 1, hit: apple" in alternatives
    assert "Result 2, miss: pear" in alternatives
    assert page.words.count("✓") == 1 + 2  # the legend and two queries
    assert page.words.count("✗") == 1 + 2


def test_worst_median_and_best_queries_are_chosen_once_each() -> None:
    precision = torch.tensor([0.9, math.nan, 0.1, 0.5, 0.4, 0.2, 1.0])
    assert choose_queries(precision, num_each=2) == [
        ("Worst queries", 2),
        ("Worst queries", 5),
        ("Median queries", 4),
        ("Median queries", 3),
        ("Best queries", 6),
        ("Best queries", 0),
    ]
    assert choose_queries(torch.tensor([0.3, math.nan, 0.2]), num_each=5) == [
        ("Worst queries", 2),
        ("Worst queries", 0),
    ]
