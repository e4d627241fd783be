from dataclasses import replace
from pathlib import Path

import pytest

from apdist.config import Config, RunConfig
from apdist.training.events import StepDone
from apdist.training.history import Kept
from apdist.training.runs import create_run, open_run
from tests.training.test_events import SAMPLES


def config_in(tmp_path: Path, name: str = "") -> Config:
    return replace(Config(), run=RunConfig(output=str(tmp_path), name=name))


def test_a_run_comes_back_with_options_and_history(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    run.tracking_run_id = "id"
    run.save_info()
    run.add(StepDone(step=1, figures={"loss": 0.5}))
    again = open_run(run.uri)
    assert (again.config, again.preset, again.tracking_run_id) == (run.config, "glyphs", "id")
    assert again.history == run.history


def test_an_existing_name_is_refused_and_the_remedy_named(tmp_path: Path) -> None:
    create_run(config_in(tmp_path, "a"), "glyphs")
    with pytest.raises(ValueError, match=r"exists; choose another --run.name.*--resume"):
        create_run(config_in(tmp_path, "a"), "glyphs")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run"):
        open_run(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "Expecting property name"),
        ("config.json", "[]", "expected sections with options"),
        ("config.json", '{"loss": 3}', "expected sections with options"),
        ("config.json", '{"loss": {"num_bin": 3}}', "did you mean 'loss.num_bins'"),
        ("run.json", "[]", "expected an object"),
        ("run.json", "", "Expecting value"),
        ("metrics.jsonl", "{}\n", "expected an event of kind start, step"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_the_reason(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    Path(run.uri, name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} is damaged .*{message}.* train a new run"):
        open_run(run.uri)


def test_a_sweep_is_no_run(tmp_path: Path) -> None:
    sweep = create_run(config_in(tmp_path, "a"), "sweep of glyphs")
    with pytest.raises(ValueError, match="is a sweep; its trials are the runs"):
        open_run(sweep.uri)


def test_rewinding_forgets_the_steps_that_are_done_again(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    for step in range(1, 6):
        run.add(StepDone(step=step, figures={}))
    run.rewind(3)
    assert [event.step for event in open_run(run.uri).history] == [1, 2, 3]


def test_a_history_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    run.add(StepDone(step=1, figures={}))
    with Path(run.uri, "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')
    assert len(open_run(run.uri).history) == 1


def test_a_run_without_a_name_is_named_after_its_preset(tmp_path: Path) -> None:
    assert create_run(config_in(tmp_path), "glyphs").name.startswith("glyphs-2")


def test_a_run_keeps_its_history_and_rewinds_where_workers_start_again(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    for event in SAMPLES:
        run.record(event)
    kept = [event for event in SAMPLES if isinstance(event, Kept)]
    assert open_run(run.uri).history == kept
    assert run.steps_done == 6
    run.record(replace(SAMPLES[0], step=5))
    assert open_run(run.uri).history == kept[:-1]
    assert [event.step for event in run.of_kind(StepDone)] == [5]
