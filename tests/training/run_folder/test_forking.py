"""A run that begins at the checkpoint of another."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file

from apdist.config import Config, override
from apdist.training.run_folder.checkpoint import newest_sound
from apdist.training.run_folder.forking import fork, refuse_unforkable
from apdist.training.run_folder.runs import create_run, open_run
from apdist_verbs.resume import resume
from tests.pipelines.test_resume import steps, stopped
from tests.training.test_loop import StopAfter, trained
from tests.training.test_measuring import HELD_OUT

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")


def test_another_run_begins_at_the_checkpoint_and_notes_its_parent(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(small_config, monkeypatch, 2)
    done = run.steps_done
    changes = ["--training.learning-rate", "0.5", "--run.name", "b"]
    assert resume([run.uri, "--fork", *changes]) == 0
    child = open_run(f"{Path(run.uri).parent}/b")
    assert child.info["parent"] == {"run": run.uri, "step": done}
    assert steps(child) == list(range(done + 1, 7))
    assert steps(run) == list(range(1, done + 1))
    groups = ["--training.rates", "linear=0.5", "--training.layer-decay", "0.9"]
    frozen = ["--training.freeze", "pooling", "--training.decay-norms", "--run.name", "d"]
    assert resume([run.uri, "--fork", *groups, *frozen]) == 0
    with pytest.raises(
        ValueError, match="another network: .*; leave the options of model and lora"
    ):
        resume([run.uri, "--fork", "--lora.rank", "2", "--run.name", "c"])
    with pytest.raises(ValueError, match="another network: linear.weight is"):
        resume([run.uri, "--fork", "--model.dim", "8", "--run.name", "c"])
    with pytest.raises(ValueError, match="the state of adamw, not of sgd"):
        resume([run.uri, "--fork", "--training.optimizer", "sgd", "--run.name", "c"])
    assert not Path(run.uri).with_name("c").exists()


def test_a_fork_has_the_start_of_its_parent_and_not_what_that_has_chosen(
    small_config: Config,
) -> None:
    config = override(small_config, HELD_OUT | {"training.blend": [0.5]})
    parent, _ = trained(config, "a", StopAfter(2))
    there = newest_sound(parent.uri, with_state=False)
    assert there is not None
    assert sorted(there.marker.weights) == ["chosen", "start"]
    child, step = fork(parent, override(parent.config, {"run.name": "b"}))
    here = newest_sound(child.uri, with_state=False)
    assert here is not None
    assert here.marker.step == step == 3
    assert here.marker.weights == {"start": there.marker.weights["start"]}


def test_a_fork_that_would_have_no_step_to_do_is_refused_before_any_work(
    small_config: Config,
) -> None:
    config = override(small_config, {"loss.kind": "triplet", "data.eval_split": ""})
    parent, _ = trained(config, "a", StopAfter(2))
    short = override(parent.config, {"run.name": "b", "training.steps": 3})
    for refuse in (refuse_unforkable, fork):
        with pytest.raises(ValueError, match=r"has done 3 steps; give a larger --training.steps"):
            refuse(parent, short)
    assert not Path(parent.uri).with_name("b").exists()
    empty = create_run(override(config, {"run.name": "c"}), "test")
    with pytest.raises(ValueError, match="c has no checkpoint to begin at; train it first"):
        refuse_unforkable(empty, config)


def test_held_out_images_that_the_parent_was_trained_on_are_told(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"loss.kind": "triplet", "training.batch_size": 16}
    run = stopped(override(small_config, changes), monkeypatch, 2)
    more = ["--data.holdout-share", "0.25", "--model.init", "pca", "--run.name", "b"]
    assert resume([run.uri, "--fork", *more]) == 0
    told = capsys.readouterr().err
    assert f"{run.name} was trained on 12 of the 12 images that weights are chosen by" in told
    assert "model.init pca: a fork goes on with the weights" in told
    assert resume([run.uri, "--fork", "--run.name", "c"]) == 0
    assert "was trained on" not in capsys.readouterr().err


def test_the_ways_of_a_blend_begin_where_the_parent_began(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"training.blend": [0.5], "loss.kind": "triplet"}
    run = stopped(override(small_config, changes), monkeypatch, 2)
    kept = {path.name: path.read_bytes() for path in Path(run.uri, "weights").iterdir()}
    assert len(kept) == 1
    assert resume([run.uri, "--fork", "--run.name", "b"]) == 0
    child = Path(run.uri).with_name("b")
    assert {path.name: path.read_bytes() for path in (child / "weights").iterdir()} == kept
    (start,) = (load(content) for content in kept.values())
    trained = torch.load(next(child.glob("checkpoints/*06/state-*.pt")), weights_only=True)["model"]
    saved = load_file(child / "model.safetensors")
    for name, value in saved.items():
        torch.testing.assert_close(value, (start[name] + trained[name]) / 2)
