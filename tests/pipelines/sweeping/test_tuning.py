"""How Tune is handed trials, without a cluster."""

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from apdist.config import Config
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.driving import Driver
from apdist.training.sweeps.state import SweepState
from tests.training.sweeps.plans import plan_of

pytest.importorskip("ray.tune")


def driver_of(root: Path) -> Driver:
    dimension = Dimension("loss.num_bins", "choice", values=(10, 20, 30))
    return Driver(plan_of(3), [dimension], Config(), SweepState(str(root)), lambda _: None)


def test_tune_gets_as_many_trials_as_there_is_room_for_and_an_end_when_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apdist_verbs.sweeping import tuning
    from apdist_verbs.sweeping.tuning import Feeder

    monkeypatch.setattr(tuning, "HEARD_S", 0.05)
    driver, room = driver_of(tmp_path), [2]
    feeder = Feeder(driver, lambda: room[0])
    first, second = feeder.suggest("t1"), feeder.suggest("t2")
    assert (first["params"], second["seed"]) == ({"loss.num_bins": 10}, 0)
    assert feeder.suggest("t3") is None
    room[0] = 3  # a node has come
    third = feeder.suggest("t4")
    room[0] = 1
    driver.finished(first["trial"], 1.0, {})
    assert feeder.suggest("t5") is None
    room[0] = 3
    driver.failed(second["trial"], 1.0, "no memory")
    again = feeder.suggest("t6")
    assert again["trial"] == second["trial"]
    driver.finished(third["trial"], 1.0, {})
    assert feeder.suggest("t7") is None  # the one that is tried again may fail, too
    driver.failed(again["trial"], 1.0, "no memory")
    feeder.on_trial_complete("t6", {}, error=True)
    assert feeder.suggest("t8") is None  # its end was not heard yet
    assert [feeder.attempts[feeder.over.popleft()]] == [again["trial"]]
    assert feeder.suggest("t9") == Feeder.FINISHED


def test_tune_gets_the_next_trial_as_soon_as_the_board_has_heard_of_an_end(tmp_path: Path) -> None:
    from apdist_verbs.sweeping.tuning import Feeder, Listener

    driver = driver_of(tmp_path)
    feeder, heard = Feeder(driver, lambda: 1), Heard(driver)
    first = feeder.suggest("t1")["trial"]
    feeder.on_trial_complete("t1", {})

    def ended(last: bool) -> list[Any]:
        assert last
        driver.finished(first, 1.0, {})
        return []

    listener = Listener(heard, feeder, ended, math.inf)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as thread:  # Tune has one of its own
        asked = thread.submit(feeder.suggest, "t2")
        listener.take(False)
        assert asked.result()["trial"] not in ("", first)
    assert heard.events == [f"{first} lost as t1"]
    assert not feeder.over


def test_tune_may_copy_and_pickle_the_feeder(tmp_path: Path) -> None:
    from ray import cloudpickle

    from apdist_verbs.sweeping.tuning import Feeder

    feeder = Feeder(driver_of(tmp_path), lambda: 1)
    assert copy.deepcopy(feeder) is feeder
    assert len(cloudpickle.dumps(feeder)) < 200


def test_the_room_is_what_a_person_allows_of_what_the_nodes_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from apdist.config import override
    from apdist_verbs.sweeping import tuning

    nodes = [{"CPU": 5.0}, {"CPU": 3.0}]
    monkeypatch.setattr(tuning, "resources_of_nodes", lambda: nodes)
    config = override(Config(), {"ray.num_workers": 2, "ray.cpus_per_worker": 2})
    assert tuning.Room(config, 0)() == 1  # a worker lives on one node: 2 + 1 of them
    nodes.append({"CPU": 2.0})
    assert tuning.Room(config, 0)() == 2
    assert tuning.Room(config, 1)() == 1
    nodes.clear()
    assert tuning.Room(config, 0)() == 1


class Heard:
    """A board that notes what it is told."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.is_interrupted = driver, False
        self.events: list[str] = []

    def on_event(self, event: str) -> None:
        self.events.append(event)

    def lost(self, name: str, attempt: str) -> None:
        self.events.append(f"{name} lost as {attempt}")

    def stop(self, name: str) -> None:
        self.events.append(f"{name} asked")

    def track_unfit(self) -> None:
        """Nothing cannot be."""


@pytest.mark.parametrize("cause", ["time", "person"])
def test_when_a_sweep_closes_each_trial_is_asked_to_stop_once(tmp_path: Path, cause: str) -> None:
    from apdist.training.cluster.ends import Interrupted
    from apdist_verbs.sweeping.tuning import Feeder, Listener

    driver = driver_of(tmp_path)
    feeder, heard = Feeder(driver, lambda: 2), Heard(driver)
    until = 0.0 if cause == "time" else math.inf
    listener = Listener(heard, feeder, lambda last: [], until)  # type: ignore[arg-type]
    names = [feeder.suggest(attempt)["trial"] for attempt in ("t1", "t2")]
    if cause == "person":
        listener.on_signal(1)
        with pytest.raises(Interrupted):
            listener.on_signal(2)
    for _ in range(2):
        listener.take(False)
    assert heard.events == [f"{name} asked" for name in names]
    assert heard.is_interrupted == (cause == "person")
    assert feeder.suggest("t3") is None


def test_the_last_events_of_an_attempt_are_heard_before_its_loss(tmp_path: Path) -> None:
    from apdist_verbs.sweeping.tuning import Feeder, Listener

    driver = driver_of(tmp_path)
    feeder, heard = Feeder(driver, lambda: 1), Heard(driver)
    asked: list[bool] = []

    def inbox(last: bool) -> list[str]:
        asked.append(last)
        return ["its last words"] if last else []

    listener = Listener(heard, feeder, inbox, math.inf)  # type: ignore[arg-type]
    name = feeder.suggest("t1")["trial"]
    listener.take(False)
    feeder.on_trial_complete("t1", None, error=True)
    listener.take(False)
    assert asked == [False, True]
    assert heard.events == ["its last words", f"{name} lost as t1"]
