"""Sweeps and extraction on a Ray of their own."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from apdist.config import Config, flatten, override
from apdist.training.events import Ended, Evaluated, StepDone
from apdist.training.run_folder.runs import SWEEP, create_run, open_run
from apdist.training.sweeps.driving import Driver
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.state import SweepState, read_state
from apdist_verbs.start.completing import with_absolute_paths
from apdist_verbs.start.start import start_of
from apdist_verbs.sweep import main, read_options
from apdist_verbs.sweeping.command import training_command
from tests.pipelines.sweeping.sweeps import begun_of
from tests.training.sweeps.plans import plan_of

SMALL = [
    *["--data.image-size", "24", "--data.group-size", "4", "--data.loader-threads", "1"],
    *["--model.dim", "16", "--training.batch-size", "32", "--training.chunk-size", "8"],
]
SPACE = """
["training.learning_rate"]
distribution = "choice"
values = [1e-9, 1e-2]
"""


def apdist(*arguments: str, cwd: Path, timeout_s: int = 400) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "apdist_verbs", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_what_a_sweep_cannot_build_is_refused_before_ray_starts(
    small_config: Config, tmp_path: Path
) -> None:
    pytest.importorskip("pytorch_metric_learning")
    run = create_run(override(small_config, {"run.name": "first", "ray.num_workers": 1}), "glyphs")
    space = tmp_path / "space.toml"
    argv = ["--config", run.uri, "--space", str(space)]
    kinds = '["loss.kind"]\ndistribution = "choice"\nvalues = ["ap", "pml:NoneLoss"]\n'
    space.write_text(kinds)
    with pytest.raises(ValueError, match="pytorch-metric-learning has no loss 'NoneLoss'"):
        main(argv)
    arguments = '["loss.arguments"]\ndistribution = "choice"\nvalues = [["margn=1"]]\n'
    space.write_text(kinds.replace("NoneLoss", "TripletMarginLoss") + arguments)
    with pytest.raises(ValueError, match="no argument 'margn'; did you mean 'margin'"):
        main(argv)
    space.write_text(kinds.replace("pml:NoneLoss", "triplet").replace('"ap", ', ""))
    with pytest.raises(ValueError, match="loss.num_bins 9 is no option of triplet"):
        main([*argv, "--loss.num-bins", "9"])


def test_a_loss_that_is_not_there_is_refused_before_torch_is_imported(
    small_config: Config, tmp_path: Path
) -> None:
    """Of the three seconds that a refusal may take, torch and SciPy would take two."""
    run = create_run(override(small_config, {"run.name": "first"}), "glyphs")
    space = tmp_path / "space.toml"
    space.write_text('["loss.kind"]\ndistribution = "choice"\nvalues = ["ap", "pml:NoneLoss"]\n')
    code = (
        "import sys\n"
        "from apdist_verbs.__main__ import main\n"
        f"code = main(['sweep', '--config', {run.uri!r}, '--space', {str(space)!r}, "
        "'--ray.num-workers', '1'])\n"
        "sys.exit(10 * ('torch' in sys.modules) + code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert done.returncode == 2


def test_a_loss_of_metric_learning_is_built_without_the_half_second_of_statistics() -> None:
    pytest.importorskip("pytorch_metric_learning")
    code = (
        "import sys\n"
        "from apdist.config import LossConfig\n"
        "from apdist_verbs.sweeping.checks import refuse_unfit_metric_learning\n"
        "refuse_unfit_metric_learning([LossConfig(kind='pml:TripletMarginLoss')], 8)\n"
        "assert not any(name.startswith('scipy.stats') for name in sys.modules)\n"
        "from pytorch_metric_learning.utils.common_functions import make_label_to_rank_dict\n"
        "assert make_label_to_rank_dict([7, 3]) == {7: 1, 3: 0}\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)


def test_a_sweep_starts_from_a_file_as_a_training_does(
    small_config: Config, tmp_path: Path
) -> None:
    run = create_run(override(small_config, {"run.name": "my first"}), "glyphs")
    more = ["--space", "space.toml", "--training.steps", "9"]
    for uri in (run.uri, f"{run.uri}/config.json"):
        options, start = read_options([*more, "--config", uri])
        changed = {"training.steps": 9, "run.name": ""}
        assert flatten(options.config) == flatten(override(run.config, changed))
        assert start.name == "glyphs"
        assert training_command(start, options.config, {"loss.num_bins": 10}) == (
            f"apdist train --config '{uri}' --loss.num-bins 10 --training.steps 9"
        )
    (tmp_path / "mine.toml").write_text("loss.num_bins = 30\n")
    options, start = read_options(["folder", f"--config={tmp_path}/mine.toml", *more])
    assert options.config.loss.num_bins == 30
    assert training_command(start, with_absolute_paths(options.config), {}) == (
        f"apdist train folder --config {tmp_path}/mine.toml --training.steps 9"
    )


def test_objectives_are_typed_one_by_one_or_with_commas() -> None:
    for typed in (["map,-model.dim"], ["map", "recall_at_1"], ["=-model.dim"]):
        words = [f"--objective{typed[0]}"] if typed[0][0] == "=" else ["--objective", *typed]
        options, _ = read_options(["glyphs", "--space", "space.toml", *words])
        assert ",".join(options.figures) == ",".join(typed).lstrip("=")
    with pytest.raises(ValueError, match="one or two figures, got 3"):
        read_options(["glyphs", "--space", "space.toml", "--objective", "map,map,map"])
    with pytest.raises(ValueError, match="--objective names map twice"):
        read_options(["glyphs", "--space", "space.toml", "--objective", "map,-map"])


def test_a_resume_asks_for_no_fewer_settings_than_were_drawn(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(3, searcher="random", scheduler="asha", test_best=1)
    begun = begun_of(small_config, SPACE, plan)
    begun.save()
    driver = Driver(
        plan, begun.dimensions(), begun.config, SweepState(begun.run.uri), lambda _: None
    )
    for _ in range(2):
        record = driver.next()
        assert record is not None
        driver.finished(record.name, 1.0, {})
    with pytest.raises(ValueError, match="--trials 1: 2 settings were drawn already; ask for more"):
        main(["--resume", begun.run.uri, "--trials", "1"])
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr("apdist_verbs.sweep.check_surroundings", lambda _: None)
    monkeypatch.setattr("apdist_verbs.sweep.check_data", lambda _: "")
    monkeypatch.setattr(
        "apdist_verbs.sweep.search_and_show",
        lambda begun, _, limits: asked.append((begun.plan.settings, limits.test_best)),
    )
    main(["--resume", begun.run.uri])
    main(["--resume", begun.run.uri, "--trials", "2", "--test-best", "0"])
    assert asked == [(3, 1), (2, 0)]
    with pytest.raises(ValueError, match="the sweep .*mine exists; .*: apdist sweep --resume"):
        create_run(begun.config, "glyphs")


def test_a_training_from_the_options_of_a_sweep_is_no_sweep(small_config: Config) -> None:
    run = create_run(small_config, SWEEP + "glyphs")
    assert start_of(["--config", run.uri], "train", "PRESET")[0].name == "glyphs"


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations
def test_a_sweep_runs_its_trials_in_turn_and_names_the_best(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(SPACE)
    steps = ["--training.steps", "8", "--evaluation.every-steps", "2", "--run.name", "mine"]
    answer = apdist(
        *["sweep", "glyphs", "--space", "space.toml", "--searcher", "grid", "--repeats", "2"],
        *["--objective", "map,-training.learning_rate"],
        *["--data.shards", str(shards), *SMALL, *steps],
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr
    records = read_state(str(tmp_path / "runs" / "mine")).records
    assert len(records) == 4
    assert {record.repeat for record in records} == {0, 1}
    runs = [open_run(str(tmp_path / "runs" / "mine" / record.name)) for record in records]
    ended = [run for run in runs if run.of_kind(Ended)]
    assert [record.state for record in records] == [
        "finished" if run in ended else "stopped" for run in runs
    ]
    assert all(Path(run.uri, "model.safetensors").exists() for run in ended)
    good = [r for r in records if r.params == {"training.learning_rate": 1e-2}]
    assert all(record.state == "finished" for record in good)
    assert "--training.learning-rate 0.01" in answer.stdout.replace("\n", "")

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("apdist")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    parent = next(run for run in found if run.info.run_name == "mine")
    children = [r for r in found if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 4
    for child in children:
        assert child.data.metrics.keys() >= {"eval/map", "map", "train/loss", "eval/seconds"}
        assert child.data.tags["apdist.command"] == parent.data.tags["apdist.command"]
        assert [used.tags[0].value for used in child.inputs.dataset_inputs][:1] == ["training"]
        steps = [p.step for p in client.get_metric_history(child.info.run_id, "train/loss")]
        assert steps == list(range(1, len(steps) + 1))  # of training steps alone

    check_extraction(tmp_path, ended[0].uri, shards)


DISTURBED = """
["training.learning_rate"]
distribution = "choice"
values = [1e-2, 1e30]

["data.classes_per_batch"]
distribution = "choice"
values = [0, 8]
when = {"training.learning_rate" = 1e-2}

["data.group_size"]
distribution = "choice"
values = [4, 2]
when = {"training.learning_rate" = 1e-2}
"""
"""Of five settings the fourth has too few images, the last ends in values that are not finite."""


def killed_after(line: str, *arguments: str, cwd: Path) -> str:
    """Run a verb, and kill its process once it has said ``line``; what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "apdist_verbs", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for text in process.stdout:
        said += text
        if re.search(line, text, re.MULTILINE):
            break
    process.kill()
    process.wait()
    assert re.search(line, said, re.MULTILINE), said
    return said


def trials_of(root: Path) -> list[TrialRecord]:
    return read_state(str(root / "runs" / "mine")).records


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1500)
@pytest.mark.filterwarnings("ignore")  # MLflow's own deprecations
def test_a_sweep_whose_driver_is_killed_twice_tries_everything_once_and_tells_the_truth(
    shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "space.toml").write_text(DISTURBED)
    steps = ["--training.steps", "8", "--evaluation.every-steps", "2", "--run.name", "mine"]
    killed_after(
        r" step 4/8: ",
        *["sweep", "glyphs", "--space", "space.toml", "--searcher", "grid", "--scheduler", "none"],
        *["--data.shards", str(shards), *SMALL, *steps, "--checkpoint.every-steps", "2"],
        *["--ray.restarts-per-hour", "0"],
        cwd=tmp_path,
    )
    assert [record.state for record in trials_of(tmp_path)] == ["running"]
    resumed = ("sweep", "--resume", "runs/mine")
    said = killed_after(r"tried again", *resumed, cwd=tmp_path)
    assert "goes on from step" in said
    answer = apdist(*resumed, cwd=tmp_path, timeout_s=800)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    records = trials_of(tmp_path)
    assert [r.state for r in records] == ["finished", "finished", "finished", "failed", "failed"]
    assert records[3].attempts == 0
    assert "training.batch_size 32 cannot be filled" in records[3].reason
    assert records[4].attempts == 2
    assert "finite" in records[4].reason
    for record in records:
        if record.state == "finished":
            assert [step for step, _ in record.curve] == [0, 2, 4, 6, 8]
            history = open_run(str(tmp_path / "runs" / "mine" / record.name)).history
            done = [event.step for event in history if isinstance(event, StepDone)]
            assert done == list(range(1, 9))

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("apdist")
    assert experiment is not None
    found = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    told = {"finished": "FINISHED", "failed": "FAILED"}
    assert {name: run.info.status for name, run in found.items()} == {
        "mine": "FINISHED",
        **{record.name: told[record.state] for record in records},
    }
    assert len(client.search_runs([experiment.experiment_id])) == 6

    best = max((r for r in records if r.state == "finished"), key=lambda r: r.figures["map"])
    command = re.search(r"  (apdist train glyphs .*?)\n\S", answer.stdout + "\n.", re.DOTALL)
    assert command is not None
    words = shlex.split(command[1].replace("\n", " "))[1:]
    again = apdist(*words, "--run.name", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    last = open_run(str(tmp_path / "runs" / "again")).of_kind(Evaluated)[-1]
    assert last.figures["map"] == best.figures["map"]  # to the last bit


def check_extraction(tmp_path: Path, run: str, shards: Path) -> None:
    """A second run of the verb finds everything done; a lost file is made again."""
    command = ["extract", "--run", run, "--shards", str(shards), "--out", "descriptors"]
    assert apdist(*command, cwd=tmp_path).returncode == 0
    files = sorted((tmp_path / "descriptors").glob("*.parquet"))
    tables = [pq.read_table(file) for file in files]
    assert sum(table.num_rows for table in tables) == 72
    assert len(tables[0]["descriptor"][0]) == 16
    files[0].unlink()
    again = apdist(*command, cwd=tmp_path)
    count = re.search(r"(\d+) of (\d+) shards are described already", again.stdout)
    assert count is not None
    assert int(count[1]) == int(count[2]) - 1
    assert pq.read_table(files[0]).equals(tables[0])
    model_id = json.loads(Path(run, "model.json").read_text())["model_id"]
    whole = pq.read_table(tmp_path / "descriptors")  # with the file beside them
    assert whole["model"].unique().to_pylist() == [model_id]
    command[-1] = str(files[0] / "below")  # a file where a folder is expected
    refused = apdist(*command, cwd=tmp_path)
    assert refused.returncode == 2
    assert f"{files[0]} is no folder; give another folder" in refused.stderr
    assert "Traceback" not in refused.stderr
