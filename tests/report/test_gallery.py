"""Which queries are shown, and how: hits and misses, images as they are."""

from __future__ import annotations

import math

import torch

from apdist.report.gallery import choose_queries, first_others
from tests.report.pages import Page, rendered, report


def test_hits_and_misses_differ_in_more_than_colour() -> None:
    page = Page(rendered(report()))
    labels = [picture.get("aria-label") for picture in page.attributes("svg")]
    assert "Result 1, hit, similarity 0.910: apple" in labels
    assert "Result 2, miss, similarity 0.420: pear" in labels
    assert page.words.count("✓") == 1 + 2  # the legend and two queries
    assert page.words.count("✗") == 1 + 2


def test_a_query_and_its_class_lead_to_each_other() -> None:
    links = [link["href"] for link in Page(rendered(report())).attributes("a") if "href" in link]
    places = Page(rendered(report())).attributes("article")
    assert [place["id"] for place in places] == ["q0", "q3"]
    assert links.count("#q0") == 2  # from its class, from its dot
    assert "#c0" in links


def test_the_first_result_is_never_the_query_itself() -> None:
    rows = torch.tensor([0, 1, 2])
    ranked = torch.tensor([[0, 2], [2, 1], [0, 1]])
    assert first_others(rows, ranked).tolist() == [2, 2, 0]


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
