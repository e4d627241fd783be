import pytest

from apdist.config import Config
from apdist.training.sweeps.ranking import Objective, front, read_objective, standings
from apdist.training.sweeps.records import TrialRecord


def trial(
    number: int, setting: int, value: float, state: str = "finished", **more: object
) -> TrialRecord:
    known = {"name": f"a-{number}", "repeat": 0, "params": {}, "seed": 0, "state": state}
    figures = {"map": value, "images_per_s": 10.0 * number}
    given = {"number": number, "setting": setting, "curve": [(1, figures)], **known, **more}
    return TrialRecord(**given)  # type: ignore[arg-type]


MAP = Objective("map")


def test_settings_are_ranked_by_their_mean_and_have_its_spread() -> None:
    records = [trial(0, 0, 0.9), trial(1, 0, 0.3), trial(2, 1, 0.7), trial(3, 1, 0.7)]
    best, other = standings(records, [MAP], Config())
    assert best.means == (0.7,)
    assert best.text() == "0.7000 ± 0.0000"
    assert other.text() == "0.6000 ± 0.4243"
    smallest = standings(records, [Objective("map", -1.0)], Config())
    assert smallest[0].trials[0].number == 0


def test_the_saved_weights_count_and_what_did_not_come_to_its_end_does_not() -> None:
    records = [
        trial(0, 0, 0.9, chosen={"map": 0.2}),
        trial(1, 1, 0.8, "stopped"),
        trial(2, 2, 0.8, "failed"),
        trial(3, 3, 0.1),
    ]
    assert [s.trials[0].number for s in standings(records, [MAP], Config())] == [0, 3]


def test_a_setting_of_which_a_repeat_was_stopped_comes_after_whole_ones() -> None:
    records = [trial(0, 0, 0.9), trial(1, 0, 0.1, "stopped"), trial(2, 1, 0.5), trial(3, 1, 0.4)]
    whole, part = standings(records, [MAP], Config())
    assert (whole.is_complete, part.is_complete) == (True, False)
    assert whole.trials[0].number == 2


def test_the_test_figures_of_a_setting_are_the_mean_of_those_that_were_measured() -> None:
    records = [
        trial(0, 0, 0.9, test={"map": 0.5}),
        trial(1, 0, 0.9, test={"map": 0.25}),
        trial(2, 0, 0.9),
        trial(3, 1, 0.1),
    ]
    best, other = standings(records, [MAP], Config())
    assert best.test("best_") == {"best_map": 0.375}
    assert other.test() == {}


def test_two_objectives_give_a_front_and_an_option_may_be_one() -> None:
    small, large = ({"model.dim": dim} for dim in (32, 64))
    records = [
        trial(0, 0, 0.5, params=small),
        trial(1, 1, 0.6, params=large),
        trial(2, 2, 0.4, params=small),
        trial(3, 3, 0.6, params=large),
    ]
    objectives = [read_objective(text, Config()) for text in ("map", "-model.dim")]
    found = standings(records, objectives, Config())
    assert [s.means for s in found][:1] == [(0.6, 64.0)]
    assert [s.trials[0].number for s in front(found, objectives)] == [1, 3, 0]
    assert front([], objectives) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mapp", "did you mean 'map'"),
        ("-model.dims", "did you mean 'model.dim'"),
        ("model.backbone", "expected one of .*, or an option that is a number"),
        ("num_queries", "is no figure of a trial"),
    ],
)
def test_an_objective_that_no_trial_has_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_objective(text, Config())
    assert str(read_objective("-images_per_s", Config())) == "-images_per_s"
