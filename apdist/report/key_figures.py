"""The figures of a report: before, after, and which of them are cards."""

from __future__ import annotations

from dataclasses import dataclass

from apdist.retrieval.metrics import RetrievalScores


@dataclass(frozen=True)
class Figure:
    """A figure in [0, 1]; more is better."""

    name: str
    before: float | None
    """None: not measured."""
    after: float
    is_main: bool
    """Shown as a card."""


def key_figures(before: RetrievalScores | None, after: RetrievalScores) -> list[Figure]:
    """All figures, the most important first."""
    now, then = _by_name(after), _by_name(before) if before else {}
    depths = {min(after.recall_at), max(after.recall_at)} if after.recall_at else set()
    main = {"mAP", *(f"R@{k}" for k in depths), "R-precision", "Reciprocal rank"}
    return [Figure(name, then.get(name), value, name in main) for name, value in now.items()]


def what_counted(scores: RetrievalScores) -> str:
    """How many queries the figures are a mean of, and how many are left out."""
    left_out = scores.num_queries_without_positive
    counted = f"{scores.num_queries - left_out:,} queries counted"
    if left_out:
        counted += f", {left_out:,} left out because no other image shares their label"
    return f"{counted}. mAP@k divides by min(k, number of positives)."


def _by_name(scores: RetrievalScores) -> dict[str, float]:
    return {
        "mAP": scores.mean_average_precision,
        **{f"R@{k}": value for k, value in sorted(scores.recall_at.items())},
        "R-precision": scores.r_precision,
        **{f"mAP@{k}": value for k, value in sorted(scores.map_at.items())},
        "Reciprocal rank": scores.mean_reciprocal_rank,
    }
