"""Going on with a run: with other options, as another run, after a stop anywhere."""

import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from apdist.config import Config, from_json, override, to_json
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.decoders import resolved
from apdist.training import measuring
from apdist.training.events import Ended, Evaluated, Event, Restarted, StepDone
from apdist.training.mailbox import Mailbox
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import Run, create_run, open_run
from apdist_verbs.__main__ import main
from apdist_verbs.resume import resume
from apdist_verbs.start.running import train_run
from tests.faulty_proxy import wait_for

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")


def stopped(config: Config, monkeypatch: pytest.MonkeyPatch, after: int, **changes: Any) -> Run:
    """A run that a person stops when step ``after`` is told: the step after it is the last."""
    named = {"run.name": "a", **{name.replace("__", "."): v for name, v in changes.items()}}
    run = create_run(override(config, named), "glyphs")
    post = Mailbox.post

    def interrupt(self: Mailbox[Event], event: Event) -> None:
        post(self, event)
        if isinstance(event, StepDone) and event.step == after:
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(self.stop_requested)  # the worker must not be faster than the signal

    with monkeypatch.context() as patch:
        patch.setattr(Mailbox, "post", interrupt)
        assert train_run(run) == (0 if after == run.config.training.steps - 1 else 130)
    return open_run(run.uri)


def steps(run: Run) -> list[int]:
    return [event.step for event in open_run(run.uri).of_kind(StepDone)]


def evaluated(run: Run) -> list[int]:
    return [event.step for event in open_run(run.uri).of_kind(Evaluated)]


def test_a_run_goes_on_with_other_options_that_decide_nothing(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(small_config, monkeypatch, 2)
    changes = ["--evaluation.every-steps", "2", "--checkpoint.every-steps", "1"]
    assert resume([run.uri, *changes, "--data.loader-threads", "2"]) == 0
    assert steps(run) == [1, 2, 3, 4, 5, 6]
    assert set(evaluated(run)) >= {0, 4, 6}
    again = open_run(run.uri)
    assert again.config.evaluation.every_steps == 2
    (restarted,) = again.of_kind(Restarted)
    assert "evaluation.every_steps 2 (was 3)" in restarted.cause
    assert "resumed" in capsys.readouterr().out


def test_what_changes_the_learning_is_refused_by_name_with_the_way_out(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(small_config, monkeypatch, 2)
    before = Path(run.uri, "config.json").read_text()
    with pytest.raises(ValueError, match=r"training.learning_rate 0.5 \(was 0.003\); .* --fork"):
        resume([run.uri, "--training.learning-rate", "0.5", "--ray.restarts-per-hour", "9"])
    with pytest.raises(ValueError, match=r"training.steps 9 \(was 6\)"):
        resume([run.uri, "--training.steps", "9"])  # the schedule is a function of the steps
    assert Path(run.uri, "config.json").read_text() == before


def damage_one_of_each_class(catalogue: Catalogue) -> None:
    """One byte of an image of each class is another."""
    sources = catalogue.select("train").table.select(["label", "shard", "offset"]).to_pylist()
    for row in {row["label"]: row for row in sources}.values():
        shard = Path(catalogue.root, row["shard"])
        data = bytearray(shard.read_bytes())
        data[row["offset"] + 40] ^= 1
        shard.write_bytes(data)


def test_damaged_images_end_a_run_that_goes_on_with_a_way_out_that_it_has(
    small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = tmp_path / "copy"
    shutil.copytree(small_config.data.shards, shards)
    run = stopped(small_config, monkeypatch, 2, data__shards=str(shards))
    damage_one_of_each_class(read_catalogue(str(shards)))
    with pytest.raises(ValueError, match="differs from its checksum") as told:
        resume([run.uri])
    (words,) = re.findall(r"apdist train --resume (.*)$", str(told.value))
    assert "or train with" not in str(told.value)
    assert resume([*shlex.split(words), "--run.name", "b"]) == 0
    whole = create_run(override(run.config, {"run.name": "c"}), "glyphs")
    with pytest.raises(ValueError, match="or train with --data.on-corrupt replace$"):
        train_run(whole)
    with pytest.raises(ValueError, match="or train with --data.on-corrupt replace$"):
        resume([whole.uri])  # it has no checkpoint


def test_a_run_goes_on_with_its_own_decoder_only(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(small_config, monkeypatch, 2)
    path, here = Path(run.uri, "config.json"), resolved("auto")
    changed = rf"another data.decoder pillow-[\d.]+ \(was {re.escape(here)}\).* --fork"
    with pytest.raises(ValueError, match=changed):
        resume([run.uri, "--data.decoder", "pillow"])
    before = path.read_text()
    older = override(from_json(before), {"data.decoder": "pillow-0.1"})
    path.write_text(to_json(older))
    with monkeypatch.context() as patch:
        patch.setattr("apdist_verbs.resume.train_run", None)  # it does not come to that
        assert main(["train", "--resume", run.uri]) == 2
    said = capsys.readouterr().err
    assert "data.decoder is pillow-0.1, and here is pillow-" in said
    assert said.count("\n") == 1
    for name in "bc":
        assert resume([run.uri, "--fork", "--data.decoder", "auto", "--run.name", name]) == 0
        fork = open_run(str(path.parent.with_name(name)))
        assert fork.is_complete
        assert fork.config.data.decoder == here
        path.write_text(before.replace(here, "auto"))  # as runs were kept before they had versions
    path.write_text(before)
    assert resume([run.uri, "--data.decoder", "auto"]) == 0
    assert steps(run) == [1, 2, 3, 4, 5, 6]
    path.write_text(to_json(older))
    assert resume([run.uri]) == 0  # it has nothing to do


def test_more_steps_are_taken_where_the_schedule_is_constant(
    small_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"run.name": "a", "training.schedule": "constant", "training.steps": 2}
    run = create_run(override(small_config, named), "glyphs")
    assert train_run(run) == 0
    assert resume([run.uri]) == 0
    assert "has done all its 2 steps" in capsys.readouterr().out
    assert resume([run.uri, "--training.steps", "4"]) == 0
    assert steps(run) == [1, 2, 3, 4]
    assert [event.step for event in open_run(run.uri).of_kind(Ended)] == [2, 4]
    with pytest.raises(ValueError, match="the run has done 4 already"):
        resume([run.uri, "--training.steps", "3"])


@pytest.mark.parametrize("after", [2, 5])
def test_a_stop_at_an_evaluation_or_at_the_last_step_leaves_nothing_out(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    run = stopped(small_config, monkeypatch, after, evaluation__every_steps=1)
    done = run.steps_done
    assert done == after + 1
    assert run.is_complete == (done == 6)
    assert evaluated(run) == list(range(done + 1))
    resume([run.uri])
    assert evaluated(run) == [0, 1, 2, 3, 4, 5, 6]
    assert steps(run) == [1, 2, 3, 4, 5, 6]


def test_an_evaluation_that_a_crash_cost_is_made_when_the_run_goes_on(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override(small_config, {"run.name": "a", "checkpoint.every_steps": 3})
    run = create_run(config, "glyphs")
    evaluate = measuring.evaluate

    def fail(*arguments: Any) -> Any:
        raise OSError("the disk with the pictures is away")

    with monkeypatch.context() as patch:
        calls: list[int] = []
        patch.setattr(
            measuring,
            "evaluate",
            lambda *a: evaluate(*a) if calls.append(1) or len(calls) == 1 else fail(),
        )
        with pytest.raises(ValueError, match="the disk with the pictures"):
            train_run(run)
    assert steps(run) == [1, 2, 3]  # the checkpoint came before the evaluation
    assert resume([run.uri]) == 0
    assert evaluated(run) == [0, 3, 6]


def test_of_two_that_go_on_with_a_run_one_is_refused(
    small_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = stopped(small_config, monkeypatch, 2)
    with held(run.uri, print), pytest.raises(ValueError, match="is being trained by process"):
        resume([run.uri, "--evaluation.every-steps", "2"])
    assert open_run(run.uri).config.evaluation.every_steps == 3  # that of the one that trains


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs", "nowhere"], "no runs in"),
        (["train", "--resume"], "expected `apdist train --resume RUN [OPTIONS]`"),
        (["train", "--resume", "--fork"], "expected `apdist train --resume RUN [OPTIONS]`"),
        (["train", "--resume", "nowhere"], "is no run"),
        (["track", "nowhere"], "is no run"),
    ],
)
def test_what_is_no_run_is_refused_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
