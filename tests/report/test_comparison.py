"""Several runs on one page: what differs, which queries changed."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from apdist.report.comparison import (
    ChangedQuery,
    ComparedRun,
    Comparison,
    RankedList,
    choose_changed,
    compared_charts,
    count_best,
    differing_settings,
    figure_rows,
    render_comparison,
)
from tests.report.pages import HOSTILE, Page, named, ranked_query, report, scores


def run(letter: str, name: str = "run", spread: float = 0.4, **settings: str) -> ComparedRun:
    return ComparedRun(
        letter=letter,
        name=name,
        uri=f"/runs/{name}",
        summary="a network",
        images="60 images",
        is_alike=True,
        settings={"training.seed": "0", **settings},
        scores=scores(spread),
        history=report().history,
        evaluations=report().evaluations,
    )


def comparison(label: str = "apple") -> Comparison:
    lists = tuple(
        RankedList(letter=letter, average_precision=ap, results=ranked_query(label).results)
        for letter, ap in (("A", 0.25), ("B", 0.75))
    )
    query = ChangedQuery(
        **named("green", "a/0.png", label), row=7, lists=lists, group=f"Best in {label}"
    )
    return Comparison(
        runs=(run("A", label), run("B", label, 3.0, **{"loss.kind": label})),
        queries=(query,),
        counts=(f"{label} is best at 3.",),
        max_bytes=1_000_000,
    )


def test_queries_are_chosen_by_how_far_the_runs_lie_apart_once_and_under_the_best() -> None:
    nan = math.nan
    precision = torch.tensor([[0.9, 0.5, 0.1, nan, 0.3], [0.1, 0.5, 0.2, nan, 0.9]])
    assert choose_changed(precision, num_each=5) == [(0, 0), (1, 4), (1, 2)]
    assert choose_changed(precision, num_each=1) == [(0, 0), (1, 4)]
    assert count_best(precision) == [1, 2]
    assert count_best(torch.tensor([[1.0, 0.5], [1.0, 0.2], [0.3, 0.1]])) == [1, 0, 0]


def test_only_options_that_differ_are_listed_with_the_value_of_each_run() -> None:
    runs = [run("A", **{"loss.kind": "ap"}), run("B", **{"loss.kind": "triplet"})]
    assert differing_settings(runs) == {"loss.kind": ["ap", "triplet"]}


def test_figures_and_curves_have_a_column_and_a_line_for_each_run() -> None:
    runs = comparison().runs
    rows = dict(figure_rows(runs))
    assert rows["mAP"] == [each.scores.mean_average_precision for each in runs]
    charts = {chart.title: chart for chart in compared_charts(runs)}
    assert {"Precision and recall", "AP of every query", "mAP: holdout", "Loss"} <= set(charts)
    for chart in charts.values():
        assert [line.name for line in chart.series] == ["A apple", "B apple"]
        assert len({line.look for line in chart.series}) == 2
    held_out = [line.points for line in charts["mAP: holdout"].series]
    assert held_out == [((0, 0.0), (10, 0.25), (20, 0.5), (30, 0.75))] * 2


def test_runs_may_have_found_different_numbers_of_images() -> None:
    (query,) = comparison().queries
    shorter = replace(query.lists[1], results=query.lists[1].results[:1])
    page, _ = render_comparison(
        replace(comparison(), queries=(replace(query, lists=(query.lists[0], shorter)),))
    )
    assert page.count('class="results"') == 2


def test_the_page_shows_both_lists_of_a_query_and_what_is_lower_in_words() -> None:
    page, notes = render_comparison(comparison())
    words = Page(page).words
    assert notes == ()
    for expected in (
        "apple · apple",
        "Best in apple",
        "0.250",
        "0.750",
        "loss.kind",
        "B \N{MINUS SIGN} A",
    ):
        assert expected in words
    assert " lower" in words
    assert page.count('class="results"') == 2
    assert page.count("<symbol") == 3


def test_runs_on_other_images_have_figures_and_a_line_that_says_so() -> None:
    first, second = comparison().runs
    other = replace(comparison(), runs=(first, replace(second, is_alike=False)), queries=())
    words = Page(render_comparison(other)[0]).words
    assert "Other images than those of A" in words
    assert "Queries that changed most" not in words


def test_names_are_escaped_on_this_page_too() -> None:
    page, _ = render_comparison(comparison(HOSTILE))
    assert page.count("<script") == 1
    assert HOSTILE in Page(page).words
