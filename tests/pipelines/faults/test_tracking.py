"""The tracking server is away while a training, or a sweep, goes on."""

from pathlib import Path

import pytest

from tests.pipelines.faults.rows import (
    Trial,
    Undisturbed,
    World,
    check,
    halted,
    in_one_line,
    is_whole,
    killed,
    last_step,
    tell,
)
from tests.pipelines.test_cluster import processes_left
from tests.ray_nodes import RayNodes

pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(600)]
pytestmark += [pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")]


# ---- the tracking server is away


def test_a_tracking_server_that_is_away_at_the_start_gets_everything(
    up: World, alone: Undisturbed
) -> None:
    trial = Trial("away at the start")
    up.mlflow.kill()
    with trial.started(up.place, *up.begin(trial.name)) as command:
        command.wait_until(lambda: last_step(trial.uri(up)) >= 8)
        with halted(command):
            up.mlflow.start()
        code, out, err = command.end()
    is_whole(code, out, err)
    assert err.count("does not answer") == 1
    check(up, trial, alone)
    tell(up, trial, "tracking server away at the start", "one warning; all is sent")


def test_a_tracking_server_that_is_killed_five_times_gets_everything(
    up: World, alone: Undisturbed
) -> None:
    trial = Trial("killed five times")
    with trial.started(up.place, *up.begin(trial.name)) as command:
        for step in (4, 8, 13, 18, 24):
            command.wait_until(lambda step=step: last_step(trial.uri(up)) >= step)
            up.mlflow.kill()
            command.wait_until(lambda step=step: last_step(trial.uri(up)) >= step + 2)
            with halted(command):
                up.mlflow.start()
        code, out, err = command.end()
    is_whole(code, out, err)
    check(up, trial, alone)
    tell(up, trial, "tracking server killed and restarted five times", "all is sent")


def test_a_tracking_server_that_is_away_at_the_end_and_at_a_resume_gets_everything_later(
    up: World, alone: Undisturbed
) -> None:
    trial = killed(up, "away at the end", 12)
    up.mlflow.kill()
    said = trial.resumed(up)
    assert "MLflow lacks a part of this run; later: apdist track" in said
    code, _, err = up.place.run("track", trial.uri(up))
    assert code == 2
    assert in_one_line(err).endswith("does not answer; try again when it does")
    up.mlflow.start()
    assert up.tracked(trial.name).status == "RUNNING"
    assert "has all" in up.place.succeed("track", trial.uri(up))
    check(up, trial, alone)
    tell(up, trial, "tracking server away at a resume and at the end", "sent by apdist track")


# ---- a sweep


SPACE = """
["training.learning_rate"]
distribution = "loguniform"
low = 1e-5
high = 1e-4
"""


def test_a_sweep_goes_on_while_its_tracking_server_is_away(up: World, nodes: RayNodes) -> None:
    (up.place.folder / "space.toml").write_text(SPACE)
    begin = up.begin("search", "--training.steps", "10", "--ray.address", nodes.address, workers=1)
    more = ["--space", "space.toml", "--trials", "3", "--scheduler", "none"]
    sweep = up.runs / "search"
    trial = Trial("search")
    arguments = ["sweep", *begin[1:], *more, "--max-concurrent", "1"]
    with trial.started(up.place, *arguments) as command:
        command.wait_until(lambda: any(last_step(str(path)) >= 2 for path in trials_of(sweep)))
        up.mlflow.kill()
        code, out, err = command.end()
    is_whole(code, out, err)
    up.mlflow.start()
    assert len(trials_of(sweep)) == 3
    for path in trials_of(sweep):
        up.place.succeed("track", str(path))
        found = up.tracked(path.name)
        assert found.status == "FINISHED"
        assert found.steps("train/loss") == list(range(1, 11))
        assert found.steps("eval/map") == [0, 5, 10]
    assert not processes_left(trial.mark)
    print("\n| tracking server away between trials | the sweep went on | 0.0 | 0 |")


def trials_of(sweep: Path) -> list[Path]:
    return sorted(path.parent for path in sweep.glob("*/config.json"))
