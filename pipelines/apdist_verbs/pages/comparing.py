"""Everything that a page about several runs shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from apdist.data import storage
from apdist.report.comparison import (
    ChangedQuery,
    ComparedRun,
    Comparison,
    RankedList,
    choose_changed,
    count_best,
)
from apdist.training.events import Evaluated, StepDone, to_json
from apdist_verbs.pages.content import Images, MeasuredRun, measured_at, settings, summary
from apdist_verbs.pages.shown import Showing

LETTERS = "ABCDEF"


def compose_comparison(
    measured: Sequence[MeasuredRun], images: Images, max_bytes: int
) -> Comparison:
    """Everything the page shows; queries of the runs measured on the images of the first one."""
    first = measured[0].found.catalogue.fingerprint()
    alike = [each.found.catalogue.fingerprint() == first for each in measured]
    runs = tuple(map(_compared, LETTERS, measured, alike))
    pairs = zip(runs, measured, strict=True)
    same = [(run.letter, each) for run, each in pairs if run.is_alike]
    queries, counts = [], []
    if len(same) > 1:
        precision = torch.stack([each.after.average_precision for _, each in same])
        counts = [
            f"{letter} is best at {count:,} of {precision.shape[1]:,} queries."
            for (letter, _), count in zip(same, count_best(precision), strict=True)
        ]
        chosen = choose_changed(precision, num_each=images.queries)
        queries = _changed(same, chosen, images.results)
    return Comparison(runs=runs, queries=tuple(queries), counts=tuple(counts), max_bytes=max_bytes)


def _compared(letter: str, measured: MeasuredRun, is_alike: bool) -> ComparedRun:
    run = measured.run
    return ComparedRun(
        letter=letter,
        name=run.name,
        uri=run.uri,
        summary=summary(run),
        images=(
            f"{measured.after.num_queries} images of the split {measured.split!r} of "
            f"{storage.shown(measured.where)}"
        ),
        is_alike=is_alike,
        settings=settings(run),
        scores=measured.after,
        history=[to_json(step) for step in run.of_kind(StepDone)],
        evaluations=[measured_at(event) for event in run.of_kind(Evaluated)],
    )


def _changed(
    same: Sequence[tuple[str, MeasuredRun]], chosen: Sequence[tuple[int, int]], num_results: int
) -> list[ChangedQuery]:
    """The chosen queries, as run that is best and row, with what each run finds."""
    rows = [("", row) for _, row in chosen]
    by_run = [Showing(each.found, each.after, None).ranked(rows, num_results) for _, each in same]
    return [
        ChangedQuery(
            image=own[0].image,
            name=own[0].name,
            key=own[0].key,
            label=own[0].label,
            label_id=own[0].label_id,
            row=row,
            lists=tuple(
                RankedList(
                    letter=letter,
                    average_precision=ranked.average_precision,
                    results=ranked.results,
                )
                for (letter, _), ranked in zip(same, own, strict=True)
            ),
            group=f"Best in {same[best][0]}",
        )
        for (best, row), own in zip(chosen, zip(*by_run, strict=True), strict=True)
    ]
