"""What the page of a sweep says in words."""

from __future__ import annotations

from typing import Any

from apdist.report.sweeps.axes import axes_of
from apdist.report.sweeps.settings import settings_of
from apdist.report.sweeps.told import (
    best_of,
    condition_of,
    distribution_of,
    facts_of,
    notices_of,
    summary_of,
)
from apdist.training.sweeps.records import SweepRecord
from tests.report.sweeps.records import SPACE, forty, sweep, trial


def notices(record: SweepRecord) -> list[str]:
    settings = settings_of(record)
    return notices_of(record, settings, best_of(record, settings), axes_of(record))


def test_the_best_has_its_mean_and_spread_or_says_that_one_seed_tells_none() -> None:
    alone = sweep(trial(test={"map": 0.48, "num_queries": 360.0}))
    best = best_of(alone, settings_of(alone))
    assert best
    assert (best.figure, best.test) == ("0.5000", (("mAP", "0.4800"),))
    assert "not known" in best.spread
    three = [trial(n, values=(v,), setting=1) for n, v in enumerate((0.4, 0.5, 0.6))]
    several = sweep(*three)
    best = best_of(several, settings_of(several))
    assert best
    assert (best.figure, best.spread) == ("0.5000", "± 0.1000 over 3 seeds, 0.4000 to 0.6000")
    assert best_of(sweep(best=None), []) is None


def test_a_best_value_at_the_end_of_its_range_is_told() -> None:
    space: list[dict[str, Any]] = [{"name": "x", "kind": "uniform", "low": 0.0, "high": 1.0}]
    found = {
        value: notices(sweep(trial(0, params={"x": value}), space=space))
        for value in (0.001, 0.5, 0.995)
    }
    assert found[0.5] == []
    assert "The best x, 0.001, lies at the lower end" in found[0.001][0]
    assert "upper end" in found[0.995][0]


def test_settings_that_only_chance_puts_behind_the_best_are_counted() -> None:
    def three(setting: int, middle: float) -> list[Any]:
        return [
            trial(3 * setting + n, values=(middle + off,), setting=setting, repeat=n)
            for n, off in enumerate((-0.02, 0, 0.02))
        ]

    near = notices(sweep(*three(0, 0.6), *three(1, 0.59), *three(2, 0.3), space=[]))
    assert len(near) == 1
    assert near[0].startswith("1 other setting is so close")
    assert "0.0200" in near[0]
    assert notices(sweep(*three(0, 0.6), *three(2, 0.3), space=[])) == []


def test_what_is_missing_is_told_first() -> None:
    assert notices(sweep(trial(values=(), state="running"), best=None)) == [
        "The sweep is not over: 1 of 1 trials wait or run.",
        "No trial has a figure yet that could be the best.",
    ]
    told = notices(forty())
    assert told[:2] == [
        "The sweep is not over: 1 of 40 trials wait or run.",
        "2 of 40 trials failed; their reasons stand below.",
    ]


def test_summary_and_facts_count() -> None:
    assert summary_of(sweep(trial())) == "1 trial, random search with asha, by mAP"
    pair = sweep(trial(0, setting=0), trial(1, setting=0), objectives=["map", "-model.dim"])
    assert summary_of(pair) == (
        "2 trials of 1 setting, random search with asha, by mAP and model.dim"
    )
    facts = facts_of(forty())
    assert facts["states"] == "30 finished, 7 stopped, 2 failed, 1 running"
    assert facts["time of all trials"] == "60 min"


def test_distributions_and_conditions_are_said_in_words() -> None:
    assert [distribution_of(entry) for entry in SPACE] == [
        "loguniform from 0.0001 to 0.1",
        "choice of 64, 128, 256",
        "choice of ap, triplet",
        "uniform from 0 to 1",
        "uniform from 0 to 1",
    ]
    counted = {"name": "x", "kind": "int", "low": 1, "high": 64, "log": True}
    assert distribution_of(counted) == "int from 1 to 64, by its logarithm"
    assert [condition_of(entry) for entry in SPACE[3:]] == ["", "loss.kind is triplet"]
