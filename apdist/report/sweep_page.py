"""One self-contained HTML page about a sweep: the best setting, what made it good, every trial."""

from __future__ import annotations

from collections.abc import Sequence

from apdist.report.page import render
from apdist.report.sweeps.axes import axes_of, words
from apdist.report.sweeps.importance import FEWEST, importance_of
from apdist.report.sweeps.parallel import parallel
from apdist.report.sweeps.plots import front_plot, repeats_plot, slices
from apdist.report.sweeps.settings import (
    Setting,
    label_of,
    last_step,
    noise_of,
    objectives_of,
    pareto,
    settings_of,
    tested,
)
from apdist.report.sweeps.told import (
    best_of,
    condition_of,
    distribution_of,
    facts_of,
    notices_of,
    summary_of,
)
from apdist.report.sweeps.trial_curves import trial_curves
from apdist.training.sweeps.records import SweepRecord, TrialRecord

MAX_BYTES = 3_000_000
MOST_ROWS = 500
"""Trials in the table, and in the list of those that were stopped or failed."""
MOST_CELLS = 10_000
"""Of the table."""
MOST_AXES = 16
"""Parameters in the drawing of all settings, and with a plot of their own: the most important."""


def sweep_page(record: SweepRecord) -> str:
    """The page as HTML; it is the same for the same record."""
    objectives, settings, axes = objectives_of(record), settings_of(record), axes_of(record)
    best = best_of(record, settings)
    number = best.setting.number if best else -1
    importance = importance_of(settings, axes, objectives[0])
    ranked = _ranked(settings)
    varied = [axis for axis in axes if axis.name in {n for t in record.trials for n in t.params}]
    order = {share.axis.name: place for place, share in enumerate(importance.shares)}
    by_importance = sorted(varied, key=lambda axis: order.get(axis.name, len(order)))[:MOST_AXES]
    num_rows = min(MOST_ROWS, MOST_CELLS // (len(varied) + 1))
    compared = pareto(settings, objectives) if len(objectives) > 1 else []
    page, _ = render(
        "sweep.html",
        [],
        [],
        MAX_BYTES,
        record=record,
        summary=summary_of(record),
        objectives=objectives,
        best=best,
        notices=notices_of(record, settings, best, varied),
        facts=facts_of(record),
        compared=compared,
        front=front_plot(compared, objectives, number) if compared else None,
        parallel=parallel(
            settings, [axis for axis in varied if axis in by_importance], objectives[0], number
        ),
        importance=importance,
        fewest=FEWEST,
        slices=slices(settings, by_importance, objectives[0], number),
        curves=trial_curves(record, ranked, objectives[0]),
        repeats=repeats_plot(settings, number),
        repeated=[setting for setting in settings if setting.spread is not None],
        noise=noise_of(settings),
        trials=ranked[:num_rows],
        ended=[trial for trial in ranked if trial.state in ("stopped", "failed")][:MOST_ROWS],
        columns=varied,
        tested={key: f"{label_of(key)}, test" for key in tested(record.trials)},
        has_repeats=any(len(setting.trials) > 1 for setting in settings),
        space=[(e.get("name", ""), distribution_of(e), condition_of(e)) for e in record.space],
        words=words,
        last_step=last_step,
    )
    return page


def _ranked(settings: Sequence[Setting]) -> list[TrialRecord]:
    """The trials, those of the best setting first."""
    return [trial for setting in settings for trial in setting.trials]
