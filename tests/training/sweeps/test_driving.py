"""A sweep without Ray: trials are functions, and drivers end in the middle."""

import dataclasses
from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.driving import OVER, Driver, SweepPlan
from apdist.training.sweeps.ranking import standings
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.state import SweepState, read_state
from tests.training.sweeps.plans import plan_of

RATE = Dimension("training.learning_rate", "loguniform", 1e-4, 1e-1)
CONFIG = override(Config(), {"training.steps": 160, "evaluation.every_steps": 20})
PLAN = plan_of(6, searcher="random")


def fits(config: Config) -> None:
    """Every setting does."""


def driver_of(
    root: Path, plan: SweepPlan = PLAN, check: object = fits, **changes: object
) -> Driver:
    plan = dataclasses.replace(plan, **changes)  # type: ignore[arg-type]
    return Driver(plan, [RATE], CONFIG, read_state(str(root)), check)  # type: ignore[arg-type]


def worth(record: TrialRecord) -> float:
    """The mAP of a trial, best at a rate of 0.01."""
    rate = record.params["training.learning_rate"]
    return float(1 / (1 + abs(rate - 0.01) * 100))


def train(driver: Driver, record: TrialRecord, until: int = 160) -> None:
    """One trial from where it is up to a step, to its end if it is not stopped."""
    done = record.curve[-1][0] if record.curve else 0
    for step in range(done + 20, until + 1, 20):
        if driver.evaluated(record.name, step, {"map": worth(record)}):
            driver.stopped(record.name, 1.0)
            return
    if until == 160:
        driver.finished(record.name, 1.0, {})


def run(driver: Driver) -> None:
    while (record := driver.next()) is not None:
        train(driver, record)


def test_a_sweep_tries_what_was_asked_for_and_ends(tmp_path: Path) -> None:
    driver = driver_of(tmp_path, repeats=2)
    run(driver)
    assert driver.is_done
    assert [(r.setting, r.repeat, r.seed) for r in driver.records[:4]] == [
        *((0, 0, 0), (0, 1, 1), (1, 0, 0), (1, 1, 1))
    ]
    assert len(driver.records) == driver.num_over == 12
    assert all(len(told.values) == 1 for told in driver.told())


@pytest.mark.parametrize("scheduler", ["none", "asha", "median"])
def test_a_sweep_whose_driver_is_killed_twice_comes_to_the_same(
    tmp_path: Path, scheduler: str
) -> None:
    undisturbed = driver_of(tmp_path / "a", scheduler=scheduler)
    run(undisturbed)
    for kill_after in (3, 7):  # evaluations, in the middle of a trial
        driver, left = driver_of(tmp_path / "b", scheduler=scheduler), kill_after
        while left > 0:
            record = driver.next()
            assert record is not None
            steps = min(160, (record.curve[-1][0] if record.curve else 0) + 20 * left)
            left -= len(range(record.curve[-1][0] if record.curve else 0, steps, 20))
            train(driver, record, steps)
    driver = driver_of(tmp_path / "b", scheduler=scheduler)
    assert not driver.running
    run(driver)
    assert [dataclasses.replace(r, seconds=0) for r in driver.records] == [
        dataclasses.replace(r, seconds=0) for r in undisturbed.records
    ]
    best = standings(driver.records, PLAN.objectives, CONFIG)[0]
    assert best.trials[0].number == max(driver.records, key=worth).number


def test_a_resume_may_ask_for_more(tmp_path: Path) -> None:
    run(driver_of(tmp_path))
    driver = driver_of(tmp_path, settings=8)
    assert not driver.is_done
    run(driver)
    assert len(driver.records) == 8
    params = [record.params for record in driver.records]
    assert all(other not in params[:place] for place, other in enumerate(params))


def test_asha_stops_known_bad_settings_and_what_is_left_of_them(tmp_path: Path) -> None:
    driver = driver_of(tmp_path, scheduler="asha", settings=12, repeats=2)
    run(driver)
    stopped = [record for record in driver.records if record.state == "stopped"]
    finished = [record for record in driver.records if record.state == "finished"]
    assert len(stopped) > len(finished) > 0
    assert max(map(worth, driver.records)) == max(map(worth, finished))
    begun = [record for record in stopped if record.curve]
    unbegun = [record for record in stopped if not record.curve]
    assert begun
    assert unbegun
    assert all(record.reason.endswith(f"; of those of seed {record.seed}") for record in begun)
    assert all("with the same setting, was stopped" in record.reason for record in unbegun)


def test_asha_lets_nothing_finish_in_a_region_that_is_known_to_be_bad(tmp_path: Path) -> None:
    """Rates above 0.03 learn nothing: two in eleven of those that are drawn."""

    def is_bad(record: TrialRecord) -> bool:
        return bool(record.params["training.learning_rate"] > 0.03)

    def figure(record: TrialRecord, step: int) -> float:
        return 0.1 if is_bad(record) else 0.1 + worth(record) * step / 160

    driver = driver_of(tmp_path, scheduler="asha", settings=60)
    while (record := driver.next()) is not None:
        for step in range(20, 161, 20):
            if driver.evaluated(record.name, step, {"map": figure(record, step)}):
                driver.stopped(record.name, 1.0)
                break
        else:
            driver.finished(record.name, 1.0, {})
    bad = [record for record in driver.records if is_bad(record)]
    assert len(bad) >= 8
    # Those that were compared with a good one end at the first rung, after an eighth of the steps.
    compared = [r for r in bad if any(o.number < r.number for o in driver.records if o not in bad)]
    assert {record.state for record in compared} == {"stopped"}
    assert {record.curve[-1][0] for record in compared} == {20}
    best = standings(driver.records, PLAN.objectives, CONFIG)[0].trials[0]
    assert best.number == max(driver.records, key=worth).number


def test_a_trial_that_fails_is_tried_once_again_and_does_not_stop_the_others(
    tmp_path: Path,
) -> None:
    driver = driver_of(tmp_path)
    first = driver.next()
    assert first is not None
    assert driver.failed(first.name, 2.0, "no memory").state == "waiting"
    again = driver.next()
    assert again is not None
    assert again.name == first.name
    failed = driver.failed(first.name, 2.0, "no memory, again")
    assert (failed.state, failed.reason, failed.seconds) == ("failed", "no memory, again", 4.0)
    run(driver)
    states = [record.state for record in driver.records]
    assert states == ["failed", *["finished"] * 5]
    assert driver.told()[0].values == ()


def test_a_setting_that_cannot_be_has_failed_before_it_is_tried(tmp_path: Path) -> None:
    def check(config: Config) -> None:
        if config.training.learning_rate > 0.01:
            raise ValueError("too\nlarge")

    driver = driver_of(tmp_path, check=check, repeats=2, settings=8)
    run(driver)
    failed = [record for record in driver.records if record.state == "failed"]
    assert failed
    assert all((r.reason, r.attempts, r.curve) == ("too large", 0, []) for r in failed)
    assert all(r.params["training.learning_rate"] > 0.01 for r in failed)
    assert all(record.state in OVER for record in driver.records)
    assert len({record.setting for record in driver.records}) == 8


def test_nothing_starts_while_a_sweep_closes_and_what_is_put_back_goes_on(tmp_path: Path) -> None:
    driver = driver_of(tmp_path)
    record = driver.next()
    assert record is not None
    driver.evaluated(record.name, 10, {"map": 0.5})
    driver.closing = "a person stopped the sweep"
    assert driver.next() is None
    driver.put_back(record.name)
    again = driver_of(tmp_path).next()
    assert again is not None
    assert (again.name, again.curve) == (record.name, [(10, {"map": 0.5})])


def test_what_is_measured_again_replaces_what_was_measured_after_the_checkpoint(
    tmp_path: Path,
) -> None:
    driver = driver_of(tmp_path)
    record = driver.next()
    assert record is not None
    for step in (10, 20, 30, 20):
        driver.evaluated(record.name, step, {"map": step / 100})
    assert [step for step, _ in driver.records[0].curve] == [10, 20]


def test_a_trial_that_was_to_stop_when_its_driver_ended_is_stopped(tmp_path: Path) -> None:
    driver = driver_of(tmp_path, scheduler="asha")
    best, worse = driver.next(), driver.next()
    assert best is not None
    assert worse is not None
    driver.evaluated(best.name, 20, {"map": 0.9})
    assert driver.evaluated(worse.name, 20, {"map": 0.1})
    again = driver_of(tmp_path, scheduler="asha")
    assert [record.state for record in again.records] == ["waiting", "stopped"]
    assert driver.failed(worse.name, 1.0, "killed").state == "stopped"


def test_settings_of_earlier_runs_come_first(tmp_path: Path) -> None:
    earlier = ({"training.learning_rate": 0.02}, {"training.learning_rate": 0.03})
    driver = driver_of(tmp_path, starting=earlier)
    run(driver)
    assert [record.params for record in driver.records[:2]] == list(earlier)
    assert len(driver.records) == 6


def test_a_space_without_another_setting_ends_the_sweep(tmp_path: Path) -> None:
    choice = Dimension("loss.num_bins", "choice", values=(10, 20))
    driver = Driver(PLAN, [choice], CONFIG, SweepState(str(tmp_path)), fits)
    names = []
    while (record := driver.next()) is not None:
        names.append(record.name)
        driver.finished(record.name, 1.0, {"map": 0.5})
    assert len(names) == 2
    assert driver.is_exhausted
    driver.measured_on_test(names[0], {"map": 0.4})
    assert read_state(str(tmp_path)).records[0].test == {"map": 0.4}
