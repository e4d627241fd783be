"""The best trials of a sweep on the evaluation split; test_sweep.py runs it whole."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.training.events import Ended, Evaluated, FromTrial, PhaseBegan, StepDone, Warned
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import SWEEP, Run, create_run, open_run
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.driving import Driver
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.state import SweepState, read_state
from apdist.training.tracking.tracker import Tracker
from apdist_verbs.sweeping.board import Board
from apdist_verbs.sweeping.finals import Finals, finalists
from apdist_verbs.sweeping.trials import trial_config
from apdist_verbs.terminal.sweep_screen import SweepScreen
from tests.training.sweeps.plans import plan_of

RATE = Dimension("training.learning_rate", "choice", values=(0.1, 0.2, 0.3, 0.4))
END = Ended(step=6, model_id="m", weights="the last", time_ms=7)


@pytest.fixture
def board(small_config: Config) -> Board:
    return board_of(small_config)


def board_of(config: Config) -> Board:
    """Of a sweep with a trial of each rate, the best of which comes last."""
    run = create_run(config, SWEEP + "glyphs")
    driver = Driver(plan_of(4), [RATE], run.config, SweepState(run.uri), lambda _: None)
    while (record := driver.next()) is not None:
        own = trial_config(run.config, run.uri, record.name, record.params, record.seed)
        made = create_run(own, "glyphs")
        made.add(StepDone(step=6, figures={"loss": 0.5}, time_ms=1))
        made.add(evaluated("holdout", record.number / 8))
        made.add(END)
        driver.evaluated(record.name, 6, {"map": record.number / 8})
        driver.finished(record.name, 1.0, {})
    parent = Tracker(run.config.tracking, "a")
    return Board(run, parent, driver, "holdout", SweepScreen(4, steps=6))


def evaluated(split: str, value: float) -> Evaluated:
    return Evaluated(step=6, split=split, figures={"map": value}, seconds=1.0, time_ms=2)


def run_of(board: Board, record: TrialRecord) -> Run:
    return open_run(f"{board.run.uri}/{record.name}")


def test_the_best_settings_are_measured_that_nobody_has_measured_yet(board: Board) -> None:
    assert [record.number for record in finalists(board, 3)] == [3, 2, 1]
    run_of(board, board.driver.records[2]).add(evaluated("test", 0.75))  # then it was killed
    assert [record.number for record in finalists(board, 3)] == [3, 1]
    assert read_state(board.run.uri).records[2].test == {"map": 0.75}
    assert finalists(board, 0) == []


def test_a_split_that_settings_were_compared_by_is_no_test(board: Board) -> None:
    board.watched = "test"
    assert finalists(board, 3) == []


@pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations
def test_what_is_found_is_in_the_history_the_record_and_mlflow(
    small_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    tracking = {"tracking.enabled": True, "tracking.uri": f"sqlite:///{tmp_path}/mlflow.db"}
    board = board_of(override(small_config, tracking))
    best = board.driver.records[3]
    finals = Finals(board)
    with ExitStack() as stack:
        assert stack.enter_context(finals.opened(best))
        stack.callback(finals.close)
        with pytest.raises(ValueError, match="is being trained by"):
            stack.enter_context(held(finals.uri(best.name), print))
        for event in (
            PhaseBegan(name="evaluating test", time_ms=1),
            evaluated("test", 0.625),
            evaluated("test", 0.625),  # of workers that began anew
            Warned(text="slow"),
        ):
            finals(FromTrial(trial=best.name, event=event))
    board.close("FINISHED")
    run = run_of(board, best)
    assert run.is_complete
    assert run.history[-1] == evaluated("test", 0.625)
    assert read_state(board.run.uri).records[3].test == {"map": 0.625}
    client = MlflowClient(board.run.config.tracking.uri)
    child = client.get_run(run.info["tracking_run_id"])
    assert (child.info.status, child.info.end_time) == ("FINISHED", 7)
    assert child.data.metrics["eval/map"] == 0.625
    parent = client.get_run(board.parent.run_id)
    assert parent.data.metrics["best_test_map"] == 0.625
    assert parent.data.metrics["best_map"] == 0.375
    (point,) = client.get_metric_history(board.parent.run_id, "best_map")
    assert point.step == 4
    assert run.info["tracked"] == "FINISHED"
    shown = capsys.readouterr()
    assert f"{best.name}: step 6: test mAP 0.6250" in shown.out
    assert "slow" in shown.err


def test_a_trial_that_somebody_goes_on_with_is_left_out(
    board: Board, capsys: pytest.CaptureFixture[str]
) -> None:
    best = board.driver.records[3]
    finals = Finals(board)
    with held(run_of(board, best).uri, print), finals.opened(best) as is_there:
        assert not is_there
    assert finals.followers == {}
    assert f"{best.name} is not measured: " in capsys.readouterr().err
    assert json.loads(Path(board.run.uri, best.name, "run.json").read_text()).get("tracked") is None
