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
from apdist.training.events import Ended, Evaluated
from apdist.training.run_folder.runs import SWEEP, create_run, open_run
from apdist.training.space import read_space
from apdist_verbs.presets import preset
from apdist_verbs.start.start import Start, read_start, start_of
from apdist_verbs.sweep import main, named_parts, read_options, training_command
from apdist_verbs.train import check_model, with_absolute_paths

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


def test_the_command_of_the_best_trial_repeats_what_differs_from_the_preset() -> None:
    config = override(preset("glyphs"), {"training.steps": 7, "tracking.enabled": False})
    start = Start("glyphs", preset("glyphs"), ("glyphs",), "apdist sweep glyphs")
    command = training_command(start, config, {"loss.num_bins": 10, "data.shards": "/a b"})
    assert command == (
        "apdist train glyphs --data.shards '/a b' --loss.num-bins 10 --training.steps 7 "
        "--tracking.no-enabled"
    )


def test_the_command_of_the_best_trial_repeats_lists() -> None:
    given = override(preset("glyphs"), {"training.freeze": ["pooling"]})
    start = Start("glyphs", given, ("glyphs",), "apdist sweep glyphs")
    rates = ["backbone.*=0.1", "linear=2"]
    command = training_command(
        start, with_absolute_paths(given), {"training.freeze": [], "training.rates": rates}
    )
    assert command == (
        "apdist train glyphs --training.rates 'backbone.*=0.1' linear=2 --training.freeze="
    )
    words = shlex.split(command)
    _, options = read_start(words[2:])
    assert options.config == override(preset("glyphs"), {"training.rates": rates})


def test_a_space_that_names_nothing_in_the_network_is_seen_before_it_is_searched(
    tmp_path: Path,
) -> None:
    space = tmp_path / "space.toml"
    space.write_text(
        '["training.freeze"]\ndistribution = "choice"\nvalues = [[], ["backbon"]]\n'
        '["training.learning_rate"]\ndistribution = "choice"\nvalues = [0.1]\n'
    )
    dimensions = read_space(space, preset("glyphs"))
    assert named_parts(dimensions) == [{"training.freeze": v} for v in ([], ["backbon"])]
    with pytest.raises(ValueError, match="named 'backbon'"):
        check_model(override(preset("glyphs"), named_parts(dimensions)[1]))


def test_the_command_of_the_best_trial_has_the_options_of_its_loss_alone() -> None:
    preset_ = with_absolute_paths(preset("glyphs"))
    config = override(preset_, {"loss.num_bins": 9})
    start = Start("glyphs", preset_, ("glyphs",), "apdist sweep glyphs")
    params = {"loss.kind": "triplet", "loss.margin": 0.2}
    command = training_command(start, config, params)
    assert command == "apdist train glyphs --loss.kind triplet --loss.margin 0.2"
    sums = {"loss.terms": ["ap=1", "recall_at_k=0.5"], "loss.ks": [1, 4]}
    command = training_command(start, config, sums)
    expected = "--loss.terms ap=1 recall_at_k=0.5 --loss.num-bins 9 --loss.ks 1 4"
    assert command == f"apdist train glyphs {expected}"
    typed = read_start(shlex.split(command)[2:])[1].config.loss
    assert typed == override(config, sums).loss
    begun = Start("glyphs", override(config, sums), ("glyphs",), "apdist sweep glyphs")
    command = training_command(begun, begun.config, {"loss.terms": ["ap=1"], "loss.ks": []})
    assert command == "apdist train glyphs --loss.terms ap=1"
    begun = Start("glyphs", override(config, {"loss.terms": ["ap=1"]}), ("glyphs",), "")
    command = training_command(begun, begun.config, {"loss.terms": []})
    assert command == "apdist train glyphs --loss.terms="


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
        *["sweep", "glyphs", "--space", "space.toml", "--trials", "4"],
        *["--data.shards", str(shards), *SMALL, *steps],
        cwd=tmp_path,
    )
    assert answer.returncode == 0, answer.stderr
    runs = [open_run(str(path)) for path in (tmp_path / "runs" / "mine").glob("*_0*")]
    assert len(runs) == 4
    ended = [run for run in runs if run.of_kind(Ended)]
    assert ended
    assert all(Path(run.uri, "model.safetensors").exists() for run in ended)
    best = max(runs, key=lambda run: run.of_kind(Evaluated)[-1].figures["map"])
    rate = best.config.training.learning_rate
    if rate != 1e-9:
        assert f"--training.learning-rate {rate}" in answer.stdout.replace("\n", "")

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
