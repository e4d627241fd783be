"""Sweeps for the tests."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from apdist.training.sweeps.records import SweepRecord, TrialRecord, TrialState

SPACE: list[dict[str, Any]] = [
    {"name": "training.learning_rate", "kind": "loguniform", "log": True, "low": 1e-4, "high": 0.1},
    {"name": "model.dim", "kind": "choice", "log": False, "values": [64, 128, 256]},
    {"name": "loss.kind", "kind": "choice", "log": False, "values": ["ap", "triplet"]},
    {"name": "data.noise", "kind": "uniform", "log": False, "low": 0.0, "high": 1.0},
    {
        "name": "loss.margin",
        "kind": "uniform",
        "log": False,
        "low": 0.0,
        "high": 1.0,
        "when": {"loss.kind": ["triplet"]},
    },
]


def trial(
    number: int = 0,
    *,
    values: tuple[float, ...] = (0.25, 0.5),
    state: TrialState = "finished",
    **changes: Any,
) -> TrialRecord:
    """One that was measured every 60 steps."""
    curve = [(60 * place, {"map": value}) for place, value in enumerate(values, start=1)]
    plain = TrialRecord(
        number=number,
        name=f"calm-otter-{number}",
        setting=number,
        repeat=0,
        params={"training.learning_rate": 0.01, "loss.kind": "ap"},
        seed=0,
        state=state,
        curve=curve,
        seconds=90.0,
    )
    return replace(plain, **changes)


def sweep(*trials: TrialRecord, **changes: Any) -> SweepRecord:
    plain = SweepRecord(
        name="sweep-glyphs",
        preset="glyphs",
        objectives=["map"],
        space=SPACE,
        searcher="random",
        scheduler="asha",
        trials=list(trials),
        best=trials[0].number if trials else None,
        command="apdist train glyphs --loss.kind ap --model.dim 64",
    )
    return replace(plain, **changes)


def drawn(seed: int) -> dict[str, Any]:
    """A setting of `SPACE`."""
    generator = random.Random(seed)
    params: dict[str, Any] = {
        "training.learning_rate": 10 ** generator.uniform(-4, -1),
        "model.dim": generator.choice([64, 128, 256]),
        "loss.kind": generator.choice(["ap", "triplet"]),
        "data.noise": generator.uniform(0, 1),
    }
    if params["loss.kind"] == "triplet":
        params["loss.margin"] = generator.uniform(0, 1)
    return params


def planted(params: dict[str, Any]) -> float:
    """A figure that depends on the rate most, on the loss less, and on nothing else."""
    rate = math.log10(params["training.learning_rate"]) + 2.0
    return 0.7 - 0.06 * rate**2 + (0.06 if params["loss.kind"] == "ap" else 0.0)


def forty(figure: Callable[[dict[str, Any]], float] = planted) -> SweepRecord:
    """Forty trials: some stopped after the first evaluation, two failed, the last one runs."""
    trials = []
    for number in range(40):
        params = drawn(number)
        value = figure(params)
        state: TrialState = "finished"
        values: tuple[float, ...] = (value / 2, 0.9 * value, value)
        if number in (7, 19):
            state, values = "failed", values[: number == 7]
        elif number == 39:
            state, values = "running", values[:2]
        elif number % 4 == 3:
            state, values = "stopped", values[:2]
        reason = {"failed": "CUDA out of memory", "stopped": "asha: rung 120"}.get(state, "")
        trials.append(trial(number, values=values, state=state, params=params, reason=reason))
    done = [t for t in trials if t.state == "finished"]
    return sweep(*trials, best=max(done, key=lambda t: t.figures["map"]).number)
