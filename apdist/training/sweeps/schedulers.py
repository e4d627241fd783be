"""Which trials are stopped early: a function of what all trials have been measured at so far.

Nothing is kept between two decisions, so a sweep that is resumed decides as if it had gone on. A
trial is compared with those of the same repeat: they have its seed and its held-out classes.
"""

import statistics
from collections.abc import Sequence

from apdist.training.sweeps.records import TrialRecord

SCHEDULERS = ("asha", "median", "none")
PBT = (
    "--scheduler pbt is not offered: it would copy weights and options from trial to trial, so "
    "that none is a run that its command trains again, and Ray Tune gets no checkpoint from a Ray "
    "Train trial to copy; use asha"
)
REDUCTION = 4
"""ASHA: of so many trials that reach a rung one goes on, and rungs lie so many times apart."""
FEWEST = 3
"""Median: other trials that a step must have been reached by."""

Measured = Sequence[tuple[int, float]]
"""Steps, and the objective then, to be large."""


def curve(record: TrialRecord, figure: str, sign: float) -> Measured:
    """What ``figure`` was of a trial, with the ``sign`` by which it is to be large."""
    return [(step, sign * found[figure]) for step, found in record.curve if figure in found]


def verdict(
    scheduler: str, own: Measured, others: Sequence[Measured], grace: int, steps: int
) -> str:
    """Why the trial with the curve ``own`` is stopped now, in a line; empty: it goes on.

    Args:
        scheduler: its name.
        own: of the trial; it ends with what was measured just now.
        others: of all other trials of the same repeat, stopped ones and failed ones as well.
        grace: steps before which none is stopped.
        steps: of a whole training; who has done them has come to its end.
    """
    if scheduler == "none" or not own or own[-1][0] >= steps:
        return ""
    return _median(own, others, grace) if scheduler == "median" else _asha(own, others, grace)


def rung_of(step: int, grace: int) -> int:
    """The highest rung at or below ``step``, in steps; 0: none."""
    rung = 0
    while step >= grace * REDUCTION**rung:
        rung += 1
    return grace * REDUCTION ** (rung - 1) if rung else 0


def _asha(own: Measured, others: Sequence[Measured], grace: int) -> str:
    """Asynchronous successive halving (Li et al., MLSys 2020), in the variant that stops.

    At the first measurement at or after a rung a trial goes on if it is in the best quarter of
    those that have reached this rung so far.
    """
    rung = rung_of(own[-1][0], grace)
    if not rung or (len(own) > 1 and own[-2][0] >= rung):
        return ""
    value = own[-1][1]
    reached = [found for curve in others if (found := _value_at(curve, rung)) is not None]
    most = max(1, (len(reached) + 1) // REDUCTION)
    better = sum(other > value for other in reached)
    if better < most:
        return ""
    return (
        f"ASHA: {better} of {len(reached)} other trials were better at step {rung}, where "
        f"{most} of {len(reached) + 1} go{'es' if most == 1 else ''} on"
    )


def _value_at(curve: Measured, rung: int) -> float | None:
    return next((value for step, value in curve if step >= rung), None)


def _median(own: Measured, others: Sequence[Measured], grace: int) -> str:
    """Median stopping (Golovin et al., KDD 2017).

    A trial is stopped whose best value so far is below the median of the means of others up to the
    same step.
    """
    step = own[-1][0]
    if step < grace:
        return ""
    means = [
        statistics.fmean(value for at, value in curve if at <= step)
        for curve in others
        if curve and curve[-1][0] >= step and curve[0][0] <= step
    ]
    if len(means) < FEWEST:
        return ""
    best, median = max(value for _, value in own), statistics.median(means)
    if best >= median:
        return ""
    return (
        f"median: {abs(best):.4f} at step {step}, where the median of others is {abs(median):.4f}"
    )
