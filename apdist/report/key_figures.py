"""The figures of the report: what stands on cards and in tables."""

from __future__ import annotations

from dataclasses import dataclass

from apdist.figures import EVALUATION, Seen, measure
from apdist.retrieval.metrics import RetrievalScores


@dataclass(frozen=True)
class KeyFigure:
    """A figure in [0, 1]; more is better."""

    name: str
    before: float | None
    """None: not measured."""
    after: float
    is_main: bool
    """Shown as a card."""


def key_figures(before: RetrievalScores | None, after: RetrievalScores) -> list[KeyFigure]:
    """All figures, the most important first."""
    then = measure(EVALUATION, before, Seen.REPORT) if before else {}
    return [
        KeyFigure(figure.label, then.get(figure), value, Seen.CARD in figure.seen)
        for figure, value in measure(EVALUATION, after, Seen.REPORT).items()
    ]


def what_counted(scores: RetrievalScores) -> str:
    """How many queries the figures are a mean of, and how many are left out."""
    left_out = scores.num_queries_without_positive
    counted = f"{scores.num_queries - left_out:,} queries counted"
    if left_out:
        counted += f", {left_out:,} left out because no other image shares their label"
    return f"{counted}. mAP@k divides by min(k, number of positives)."
