"""Which curves the report shows: training, evaluation, precision-recall, AP over queries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import Any

from apdist.figures import EVALUATION, STEP, followed
from apdist.report.charts import Chart, Point, Series, smooth
from apdist.retrieval.metrics import RetrievalScores

_LOOKS = ("after", "second", "third")

Rows = list[dict[str, float]]


def training_charts(history: Rows) -> list[Chart]:
    """Loss, binned mAP and throughput over the steps."""
    charts = []
    for figure in followed(STEP):
        points = column(history, figure.key)
        title = figure.label[0].upper() + figure.label[1:]
        series = (
            Series(name=f"{title} per step", points=points, look="faint"),
            Series(name=title, points=smooth(points), look="after"),
        )
        charts.append(
            Chart(
                title=title,
                note=figure.note,
                x_label="step",
                series=series,
                y_from_zero_to_one=figure.is_share,
            )
        )
    return charts


def evaluation_charts(evaluations: list[dict[str, Any]]) -> list[Chart]:
    """Exact mAP, R@1 and R-precision of each split over the steps, the most measured one first."""
    splits = Counter(row["split"] for row in evaluations)
    return [
        Chart(
            title=f"Evaluation: {split}",
            note="Exact figures of unseen images, as training went on.",
            x_label="step",
            series=tuple(
                Series(
                    name=figure.label,
                    points=column([r for r in evaluations if r["split"] == split], figure.key),
                    look=look,
                )
                for figure, look in zip(followed(EVALUATION), cycle(_LOOKS), strict=False)
            ),
        )
        for split, _ in splits.most_common()
    ]


def score_charts(before: RetrievalScores | None, after: RetrievalScores) -> list[Chart]:
    """The precision-recall curve and the sorted APs, before and after."""
    runs = [("after", after)] if before is None else [("before", before), ("after", after)]
    return [
        Chart(
            title="Precision and recall",
            note="Best precision at each recall or more, mean over queries.",
            x_label="recall",
            series=tuple(
                Series(name=name, points=precision_recall(scores), look=name)
                for name, scores in runs
            ),
        ),
        Chart(
            title="AP of every query",
            note="Queries from worst to best: how many fail, not only the mean.",
            x_label="share of queries",
            series=tuple(
                Series(name=name, points=sorted_precision(scores), look=name)
                for name, scores in runs
            ),
        ),
    ]


def similarity_chart(similarities: list[dict[str, Any]]) -> Chart:
    """Similarities of positive and negative pairs of a training batch, first and last."""
    series = [
        Series(
            name=f"{kind} pairs, step {row['step']}",
            points=tuple(zip(reversed(row["centres"]), reversed(row[kind]), strict=True)),
            look=look,
        )
        for row, looks in zip(
            [similarities[0], similarities[-1]] if similarities else [],
            (("third", "before"), ("second", "after")),
            strict=False,
        )
        for kind, look in zip(("negative", "positive"), looks, strict=True)
    ]
    return Chart(
        title="Similarities",
        note="Share of the pairs of a training batch, at its first step and at its last.",
        x_label="cosine similarity",
        series=tuple(series),
        y_from_zero_to_one=False,
    )


def compared_training_charts(runs: Sequence[tuple[str, Rows, str]]) -> list[Chart]:
    """Loss, binned mAP and throughput of several runs, as moving means.

    Args:
        runs: name, history and look of each.
    """
    return [
        Chart(
            title=figure.label[0].upper() + figure.label[1:],
            note="Moving means over the steps.",
            x_label="step",
            series=tuple(
                Series(name=name, points=smooth(column(history, figure.key)), look=look)
                for name, history, look in runs
            ),
            y_from_zero_to_one=figure.is_share,
        )
        for figure in followed(STEP)
    ]


def column(rows: Rows, name: str) -> tuple[Point, ...]:
    """A figure over the steps; NaN where it was not measured."""
    return tuple((row["step"], row.get(name, math.nan)) for row in rows)


def precision_recall(scores: RetrievalScores) -> tuple[Point, ...]:
    """Precision over recall."""
    precision = scores.precision_at_recall.tolist()
    return tuple((level / (len(precision) - 1), value) for level, value in enumerate(precision))


def sorted_precision(scores: RetrievalScores) -> tuple[Point, ...]:
    """AP of each query over their share, the worst first."""
    known = scores.average_precision[~scores.average_precision.isnan()].sort().values.tolist()
    return tuple((place / max(1, len(known) - 1), value) for place, value in enumerate(known))
