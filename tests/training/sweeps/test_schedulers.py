import pytest

from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.schedulers import curve, rung_of, verdict

STEPS = 100


def line(value: float, steps: int = STEPS) -> list[tuple[int, float]]:
    """A trial that is measured at ``value`` each time."""
    return [(step, value) for step in range(0, steps + 1, 10)]


def test_rungs_lie_four_times_apart() -> None:
    assert [rung_of(step, 10) for step in (0, 9, 10, 39, 40, 159, 160)] == [
        0,
        0,
        10,
        10,
        40,
        40,
        160,
    ]


def test_asha_lets_the_best_quarter_of_a_rung_go_on() -> None:
    others = [line(value) for value in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)]
    assert not verdict("asha", line(0.65, 40), others, 10, STEPS)
    reason = verdict("asha", line(0.55, 40), others, 10, STEPS)
    assert reason == "ASHA: 2 of 7 other trials were better at step 40, where 2 of 8 go on"
    assert not verdict("none", line(0.0, 40), others, 10, STEPS)


def test_asha_decides_at_rungs_alone_and_never_at_the_end() -> None:
    others = [line(0.5)]
    assert not verdict("asha", [(0, 0.0)], others, 10, STEPS)
    assert verdict("asha", line(0.0, 10), others, 10, STEPS)
    assert not verdict("asha", line(0.0, 20), others, 10, STEPS)
    assert verdict("asha", line(0.0, 40), others, 10, STEPS)
    assert not verdict("asha", line(0.0, STEPS), others, STEPS, STEPS)
    assert not verdict("asha", line(0.0, 10), [], 10, STEPS)


def test_asha_counts_a_trial_that_was_stopped_at_the_rungs_that_it_reached() -> None:
    assert verdict("asha", line(0.1, 10), [line(0.2, 10)], 10, STEPS)
    assert not verdict("asha", line(0.1, 40), [line(0.2, 10)], 10, STEPS)


def test_the_median_rule_stops_what_was_never_as_good_as_the_mean_of_half_of_the_others() -> None:
    others = [line(value) for value in (0.2, 0.4, 0.6)]
    reason = verdict("median", line(0.3, 20), others, 10, STEPS)
    assert reason == "median: 0.3000 at step 20, where the median of others is 0.4000"
    assert not verdict("median", line(0.5, 20), others, 10, STEPS)
    assert not verdict("median", [(10, 0.5), (20, 0.1)], others, 10, STEPS)
    assert not verdict("median", line(0.3, 20), others[:2], 10, STEPS)
    assert not verdict("median", line(0.3, 20), others, 30, STEPS)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_curve_has_the_sign_by_which_it_is_to_be_large(sign: float) -> None:
    record = TrialRecord(
        number=0,
        name="a-b",
        setting=0,
        repeat=0,
        params={},
        seed=0,
        state="running",
        curve=[(0, {"map": 0.5}), (5, {"loss": 1.0}), (10, {"map": 0.25})],
    )
    assert curve(record, "map", sign) == [(0, 0.5 * sign), (10, 0.25 * sign)]
