"""The figures of a report as cards, and in full as a table: before, after, change."""

from __future__ import annotations

from apdist.figures import EVALUATION, Seen, measure
from apdist.report.gallery import text
from apdist.retrieval.metrics import RetrievalScores


def render_cards(before: RetrievalScores | None, after: RetrievalScores) -> str:
    """A card for each of the main figures, with a bar and what it was before."""
    now = _by_label(after, Seen.CARD)
    then = _by_label(before, Seen.CARD) if before else {}
    cards = (_card(name, then.get(name), value) for name, value in now.items())
    return f'<div class="figures">{"".join(cards)}</div>'


def render_table(before: RetrievalScores | None, after: RetrievalScores) -> str:
    """All figures, collapsible."""
    now = _by_label(after, Seen.REPORT)
    then = _by_label(before, Seen.REPORT) if before else {}
    head = "".join(
        f'<th scope="col" class="number">{name}</th>' for name in ("before", "after", "change")
    )
    rows = "".join(_row(name, then.get(name), value) for name, value in now.items())
    left_out = after.num_queries_without_positive
    caption = f"{after.num_queries - left_out:,} queries counted"
    if left_out:
        caption += f", {left_out:,} left out because no other image shares their label"
    return (
        '<details class="card"><summary>All figures</summary><div><table>'
        f"<caption>{caption}. mAP@k divides by min(k, number of positives).</caption>"
        f'<thead><tr><th scope="col">figure</th>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div></details>"
    )


def _by_label(scores: RetrievalScores, seen: Seen) -> dict[str, float]:
    return {figure.label: value for figure, value in measure(EVALUATION, scores, seen).items()}


def _card(name: str, before: float | None, after: float) -> str:
    change = "" if before is None else f"from {before:.3f}, {_signed(after - before)}"
    mark = "" if before is None else f'<b style="left:calc({100 * before:.1f}% - 1px)"></b>'
    return (
        f'<div class="figure card{" first" if name == "mAP" else ""}">'
        f'<p class="name">{text(name)}</p><p class="value">{after:.3f}</p>'
        f'<div class="bar" aria-hidden="true"><i style="width:{100 * after:.1f}%"></i>{mark}</div>'
        f'<p class="change">{change}</p></div>'
    )


def _row(name: str, before: float | None, after: float) -> str:
    numbers = (
        "&ndash;" if before is None else f"{before:.4f}",
        f"{after:.4f}",
        "&ndash;" if before is None else _signed(after - before, 4),
    )
    cells = "".join(f'<td class="number">{number}</td>' for number in numbers)
    return f'<tr><th scope="row">{text(name)}</th>{cells}</tr>'


def _signed(change: float, digits: int = 3) -> str:
    """A change with its sign, as HTML: the true minus is as wide as the plus."""
    return f"{'&minus;' if change < 0 else '+'}{abs(change):.{digits}f}"
