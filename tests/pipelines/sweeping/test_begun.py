"""What was asked of a sweep, as its folder has it."""

import json
from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.training.run_folder.runs import create_run
from apdist.training.sweeps.space import parsed_space
from apdist_verbs.sweeping.begun import Begun, open_begun, starting_settings
from tests.pipelines.sweeping.sweeps import begun_of
from tests.training.sweeps.plans import MAP_AND_SIZE, plan_of

SPACE = '["training.learning_rate"]\ndistribution = "uniform"\nlow = 1e-3\nhigh = 1e-2\n'


@pytest.fixture
def begun(small_config: Config) -> Begun:
    plan = plan_of(
        5,
        searcher="tpe",
        scheduler="asha",
        repeats=2,
        objectives=MAP_AND_SIZE,
        starting=({"training.learning_rate": 0.005},),
    )
    found = begun_of(small_config, SPACE, plan)
    found.save()
    return found


def test_a_resume_reads_what_was_asked(begun: Begun) -> None:
    again = open_begun(begun.run.uri, 0)
    assert again.plan == begun.plan
    assert (again.start, again.config, again.space) == (begun.start, begun.config, SPACE)
    assert open_begun(begun.run.uri, 9).plan.settings == 9
    begun.limited(test_best=1, max_concurrent=4).save()
    assert open_begun(begun.run.uri, 0).plan.test_best == 1
    assert open_begun(begun.run.uri, 0).plan.max_concurrent == 4
    assert [dimension.name for dimension in again.dimensions()] == ["training.learning_rate"]


def test_what_is_no_sweep_or_damaged_is_refused(begun: Begun, small_config: Config) -> None:
    run = create_run(override(small_config, {"run.name": "plain"}), "glyphs")
    with pytest.raises(ValueError, match="is no sweep but a run: apdist train --resume"):
        open_begun(run.uri, 0)
    with pytest.raises(ValueError, match="is no run"):
        open_begun(f"{run.uri}/nowhere", 0)
    place = Path(begun.run.uri, "sweep.json")
    head = json.loads(place.read_text())
    del head["repeats"]
    place.write_text(json.dumps(head))
    with pytest.raises(ValueError, match=r"sweep.json is damaged \('repeats'\)"):
        open_begun(begun.run.uri, 0)


def test_earlier_runs_whose_options_lie_in_the_space_are_settings(
    small_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    dimensions = parsed_space(SPACE, small_config, "the space")
    uris = [
        create_run(
            override(small_config, {"run.name": f"r{rate}", "training.learning_rate": rate}), "a"
        ).uri
        for rate in (0.002, 0.5, 0.003)
    ]
    found = starting_settings([*uris, uris[0]], dimensions)
    assert found == ({"training.learning_rate": 0.002}, {"training.learning_rate": 0.003})
    assert (
        "its training.learning_rate is 0.5, and the space has 0.001 to 0.01; it is left out"
        in capsys.readouterr().err
    )
