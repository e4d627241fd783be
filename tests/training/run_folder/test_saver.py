import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn, optim

from apdist.training.events import Evaluated, StepDone
from apdist.training.run_folder import kept_weights
from apdist.training.run_folder.checkpoint import FOLDER, Marker, newest_sound, whole_state
from apdist.training.run_folder.kept_weights import packed
from apdist.training.run_folder.pages import Recorder, read_pages
from apdist.training.run_folder.saver import Saver

ORIGIN = {"config_hash": "abc", "data_hash": "def"}


def state() -> dict[str, object]:
    model = nn.Linear(3, 2)
    return whole_state(model, optim.SGD(model.parameters(), lr=0.1))


def step_done(step: int) -> StepDone:
    return StepDone(step=step, figures={})


def saver(
    run: Path,
    gate: threading.Event | None = None,
    pages: Sequence[str] = (),
    **options: object,
) -> Saver:
    """Of two kept checkpoints; ``gate`` holds back what is to become valid."""

    def wait() -> None:
        if gate is not None:
            gate.wait(30)

    return Saver(
        str(run),
        Recorder(str(run), pages),
        keep=2,
        **{"writer": 0, "may_write": wait, "done": lambda step, uri: None} | options,  # type: ignore[arg-type]
    )


def test_the_loop_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    gate = threading.Event()
    told: list[int] = []
    saving = saver(tmp_path, gate, done=lambda step, uri: told.append(step))
    saving.recorder.add(step_done(1))
    saving.save(state(), Marker(step=1, **ORIGIN))
    saving.recorder.add(step_done(2))  # belongs to the next one
    assert newest_sound(str(tmp_path)) is None
    gate.set()
    saving.save(state(), Marker(step=2, **ORIGIN))
    saving.wait()
    assert told == [1, 2]
    found = newest_sound(str(tmp_path))
    assert found is not None
    assert read_pages(str(tmp_path), found.marker.history) == [step_done(1), step_done(2)]


def test_the_loop_does_not_wait_for_a_checkpoint_to_store_what_came_after_it(
    tmp_path: Path,
) -> None:
    gate = threading.Event()
    saving = saver(tmp_path, gate)
    saving.recorder.add(step_done(1))
    saving.save(state(), Marker(step=1, **ORIGIN))
    evaluated = Evaluated(step=1, split="test", figures={"map": 0.5}, seconds=1)
    saving.recorder.add(evaluated)
    saving.save_history()
    assert newest_sound(str(tmp_path)) is None  # and yet the loop is here
    gate.set()
    saving.wait()
    found = newest_sound(str(tmp_path))
    assert found is not None
    assert read_pages(str(tmp_path), found.marker.history) == [step_done(1), evaluated]


def test_what_keeps_a_checkpoint_from_being_written_ends_the_run(tmp_path: Path) -> None:
    def lost() -> None:
        raise ValueError("another writer")

    saving = saver(tmp_path, may_write=lost)
    saving.save(state(), Marker(step=1, **ORIGIN))
    with pytest.raises(ValueError, match="another writer"):
        saving.save(state(), Marker(step=2, **ORIGIN))
    assert newest_sound(str(tmp_path)) is None


def test_a_history_is_never_stored_with_an_earlier_checkpoint_than_its_own(tmp_path: Path) -> None:
    lost: list[int] = []

    def refuse() -> None:
        if lost:
            raise ValueError("the disk is full")

    saving = saver(tmp_path, may_write=refuse)
    saving.recorder.add(step_done(1))
    saving.save(state(), Marker(step=1, **ORIGIN))
    saving.wait()
    lost.append(1)
    saving.recorder.add(step_done(2))
    saving.save(state(), Marker(step=2, **ORIGIN))
    thread = saving._thread
    assert thread is not None
    thread.join()
    lost.clear()  # there is room again, too late for step 2
    saving.save_history()
    with pytest.raises(ValueError, match="the disk is full"):
        saving.wait()
    found = newest_sound(str(tmp_path))
    assert found is not None
    assert read_pages(str(tmp_path), found.marker.history) == [step_done(1)]


def test_a_checkpoint_that_never_ends_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr("apdist.training.run_folder.saver.LONGEST_WRITE_S", 0.2)
    saving = saver(tmp_path, gate)
    saving.save(state(), Marker(step=1, **ORIGIN))
    with pytest.raises(OSError, match=r"was not written in 0 s"):
        saving.wait()
    gate.set()


def test_what_happens_after_a_checkpoint_can_be_stored_with_it(tmp_path: Path) -> None:
    saving = saver(tmp_path)
    saving.recorder.add(step_done(1))
    saving.save_history()  # no checkpoint yet: nothing to store it with
    saving.save(state(), Marker(step=1, **ORIGIN))
    saving.wait()
    evaluated = Evaluated(step=1, split="test", figures={"map": 0.5}, seconds=1)
    saving.recorder.add(evaluated)
    saving.save_history()
    saving.wait()
    found = newest_sound(str(tmp_path))
    assert found is not None
    assert read_pages(str(tmp_path), found.marker.history) == [step_done(1), evaluated]
    assert len(list((tmp_path / "history").iterdir())) == 1


def newest(run: Path) -> Marker:
    found = newest_sound(str(run))
    assert found is not None
    return found.marker


def kept_files(run: Path) -> list[str]:
    return sorted(path.stem for path in (run / kept_weights.FOLDER).iterdir())


def keep_weights(saving: Saver, role: str, value: float) -> str:
    name, content = packed({"weight": torch.full((3,), value)})
    saving.keep_weights(role, name, content)
    return name


def test_old_checkpoints_leave_with_the_weights_that_no_other_needs(tmp_path: Path) -> None:
    saving = saver(tmp_path)
    names = []
    for step, role in enumerate(["start", "chosen", "chosen", "chosen"]):
        names.append(keep_weights(saving, role, step))
        saving.save(state(), Marker(step=step, **ORIGIN))
    saving.wait()
    assert newest(tmp_path).weights == {"start": names[0], "chosen": names[3]}
    assert [path.name[-2:] for path in sorted((tmp_path / FOLDER).iterdir())] == ["02", "03"]
    assert kept_files(tmp_path) == sorted([names[0], names[2], names[3]])


def test_what_a_second_writer_adds_to_a_checkpoint_is_its_own(tmp_path: Path) -> None:
    first = saver(tmp_path, writer=1)
    keep_weights(first, "chosen", 1.0)
    first.save(state(), Marker(step=1, **ORIGIN))
    first.wait()
    second = saver(tmp_path, writer=2)
    second.last = newest(tmp_path)
    assert second.last.writer == 1
    name = keep_weights(second, "chosen", 2.0)
    second.recorder.add(Evaluated(step=1, split="test", figures={"map": 0.5}, seconds=1))
    second.save_history()
    second.wait()
    assert (newest(tmp_path).writer, newest(tmp_path).weights) == (2, {"chosen": name})


def test_the_pages_that_a_worker_begins_with_stay_for_a_driver_that_is_slow(tmp_path: Path) -> None:
    saving = saver(tmp_path)
    saving.recorder.add(step_done(1))
    saving.save(state(), Marker(step=1, **ORIGIN))
    saving.wait()
    assert saving.last is not None
    resumed, begun = saver(tmp_path, pages=saving.last.history), saving.last
    resumed.last = begun
    resumed.recorder.add(Evaluated(step=1, split="test", figures={"map": 0.5}, seconds=1))
    resumed.save_history()
    for step in (2, 3, 4):
        resumed.recorder.add(step_done(step))
        resumed.save(state(), Marker(step=step, **ORIGIN))
    resumed.wait()
    found = newest_sound(str(tmp_path))
    assert found is not None
    assert found.marker.history != begun.history
    assert read_pages(str(tmp_path), begun.history) == [step_done(1)]
