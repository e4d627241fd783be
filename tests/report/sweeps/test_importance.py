"""Importance: finds what was planted, takes noise for noise, says where it can say nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from apdist.report.sweeps import importance as module
from apdist.report.sweeps.axes import axes_of
from apdist.report.sweeps.importance import Importance, importance_of
from apdist.report.sweeps.settings import objectives_of, settings_of
from apdist.training.sweeps.records import SweepRecord
from tests.report.sweeps.records import drawn, forty, sweep, trial


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DRAWS", 10)


def importance(record: SweepRecord) -> Importance:
    (objective,) = objectives_of(record)
    return importance_of(settings_of(record), axes_of(record), objective)


def test_what_was_planted_is_found_and_the_rest_may_be_chance() -> None:
    found = importance(forty())
    names = [share.axis.name for share in found.shares]
    assert names[:2] == ["training.learning_rate", "loss.kind"]
    assert {share.axis.name for share in found.shares if share.is_clear} == set(names[:2])
    first = found.shares[0]
    assert 0.4 < first.low < first.share < first.high <= 1
    assert found.explained > 0.5
    assert found.together == pytest.approx(1 - sum(share.share for share in found.shares), abs=0.1)
    assert "may be chance" not in first.in_words
    assert all("may be chance" in share.in_words for share in found.shares[2:])


def test_settings_are_compared_at_a_step_that_most_of_them_reached() -> None:
    """Those that were stopped would else be bad whatever their parameters."""
    found = importance(forty())
    assert found.step == 120
    assert found.num_settings == 38  # without the failed ones, which came to step 60 and to none


def test_noise_is_taken_for_noise() -> None:
    generator = random.Random(2)
    found = importance(forty(lambda _: generator.random()))
    assert found.explained < 0
    assert not any(share.is_clear for share in found.shares)


def test_a_parameter_matters_only_where_it_is_there() -> None:
    """Without it a random value stands in its place: what it lacks explains nothing."""

    def margin(params: dict[str, Any]) -> float:
        return params.get("loss.margin", 0.5)

    found = importance(forty(margin))
    assert found.shares[0].axis.name == "loss.margin"
    kind = next(share for share in found.shares if share.axis.name == "loss.kind")
    assert kind.share < 0.1


@pytest.mark.parametrize("count", [0, 1, 7])
def test_of_too_few_settings_nothing_is_said(count: int) -> None:
    trials = [trial(n, values=(n / 10,), params=drawn(n)) for n in range(count)]
    found = importance(sweep(*trials))
    assert (found.shares, found.num_settings) == ((), count)


def test_of_settings_that_are_all_alike_nothing_is_said() -> None:
    same = [trial(n, values=(0.5,), params=drawn(n)) for n in range(12)]
    assert importance(sweep(*same)).shares == ()
    one = [trial(n, values=(n / 20,)) for n in range(12)]
    assert importance(sweep(*one, space=[])).shares == ()
