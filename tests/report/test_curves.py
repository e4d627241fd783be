"""Which lines the charts of a report have."""

import math

from apdist.report.curves import (
    evaluation_charts,
    score_charts,
    similarity_chart,
    training_charts,
)
from tests.report.pages import report, scores


def test_a_training_chart_has_every_step_and_its_moving_mean() -> None:
    history = [{"step": t, "loss": t % 2, "images_per_s": 9.0} for t in range(100)]
    charts = {chart.title: chart for chart in training_charts(history)}
    assert {"Loss", "Binned mAP", "Throughput"} <= set(charts)
    each, mean = charts["Loss"].series
    assert each.points == tuple((t, t % 2) for t in range(100))
    assert 0.3 < dict(mean.points)[50] < 0.7
    assert all(math.isnan(value) for _, value in charts["Binned mAP"].series[0].points)


def test_evaluations_have_a_chart_for_each_split_and_a_line_for_each_figure() -> None:
    watched, other = evaluation_charts(report().evaluations)
    assert (watched.title, other.title) == ("Evaluation: holdout", "Evaluation: apple")
    lines = {line.name: line.points for line in watched.series}
    assert lines["mAP"] == ((0, 0.0), (10, 0.25), (20, 0.5), (30, 0.75))
    assert {"R@1", "R-precision"} < set(lines)
    assert other.series[0].points == ((30, 0.5),)


def test_scores_before_training_have_a_line_of_their_own_where_there_are_some() -> None:
    after = scores(0.4)
    for before, names in ((None, ["after"]), (scores(3.0), ["before", "after"])):
        for chart in score_charts(before, after):
            assert [line.name for line in chart.series] == names


def test_queries_are_sorted_from_worst_to_best() -> None:
    *_, chart = score_charts(None, scores(0.4))
    values = [value for _, value in chart.series[0].points]
    assert values == sorted(values)
    assert [place for place, _ in chart.series[0].points][::59] == [0.0, 1.0]


def test_precision_is_drawn_over_all_of_recall() -> None:
    chart, *_ = score_charts(None, scores(0.4))
    levels = [level for level, _ in chart.series[0].points]
    assert (levels[0], levels[-1]) == (0.0, 1.0)
    assert [value for _, value in chart.series[0].points] == (
        scores(0.4).precision_at_recall.tolist()
    )


def test_similarities_are_those_of_the_first_step_and_of_the_last() -> None:
    chart = similarity_chart(report().similarities)
    assert [line.name for line in chart.series] == [
        *("negative pairs, step 1", "positive pairs, step 1"),
        *("negative pairs, step 8", "positive pairs, step 8"),
    ]
    xs = [x for x, _ in chart.series[0].points]
    assert xs == sorted(xs)
    assert similarity_chart([]).series == ()
