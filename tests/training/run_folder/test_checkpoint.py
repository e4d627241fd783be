import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from apdist.training.events import StepDone
from apdist.training.run_folder.checkpoint import (
    Marker,
    SoundCheckpoint,
    load_state,
    newest_history,
    newest_sound,
    prune_checkpoints,
    read_marker,
    save_checkpoint,
    sound,
    state_name,
    whole_state,
)
from apdist.training.run_folder.pages import Recorder, read_page, write_page

ORIGIN = {"config_hash": "abc", "data_hash": "def"}


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def save(run: Path, step: int) -> Path:
    """A checkpoint with a history of one event."""
    recorder = Recorder(str(run))
    recorder.add(StepDone(step=step, figures={}))
    pages, content = recorder.cut()
    write_page(str(run), pages[0], content)
    marker = Marker(step=step, **ORIGIN, history=tuple(pages))
    return Path(save_checkpoint(str(run), whole_state(*trained()), marker)[0])


def marker_of(checkpoint: Path) -> Marker:
    return read_marker(str(checkpoint), "meta-0.json")


def newest(run: Path) -> SoundCheckpoint:
    found = newest_sound(str(run))
    assert found is not None
    return found


def test_training_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    model, optimizer = trained()
    save_checkpoint(str(tmp_path), whole_state(model, optimizer), Marker(step=7, **ORIGIN))
    other, other_optimizer = trained()
    found = newest(tmp_path)
    assert found.marker.step == 7
    load_state(found, other, other_optimizer, **ORIGIN)
    for m, o in ((model, optimizer), (other, other_optimizer)):
        o.zero_grad()
        m(torch.ones(4, 3)).pow(2).sum().backward()
        o.step()
    assert torch.equal(model.weight, other.weight)  # type: ignore[arg-type]


class Counter:
    """Something else that a training goes on from."""

    def __init__(self, count: int) -> None:
        self.count = count

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state.get("count", -1)


def test_what_is_kept_beside_the_model_comes_back_and_hears_where_there_is_nothing(
    tmp_path: Path,
) -> None:
    model, optimizer = trained()
    state = whole_state(model, optimizer, {"mean": Counter(3), "centres": Counter(5)})
    save_checkpoint(str(tmp_path), state, Marker(step=7, **ORIGIN))
    parts = {"mean": Counter(0), "centres": Counter(0), "new": Counter(0)}
    load_state(newest(tmp_path), model, optimizer, **ORIGIN, parts=parts)
    assert [part.count for part in parts.values()] == [3, 5, -1]


def test_groups_are_those_of_the_options_and_the_state_of_each_parameter_its_own(
    tmp_path: Path,
) -> None:
    model, optimizer = trained()
    del optimizer.state[model.bias]  # type: ignore[arg-type]
    save_checkpoint(str(tmp_path), whole_state(model, optimizer), Marker(step=7, **ORIGIN))
    other = nn.Linear(3, 2)
    groups = [{"params": [other.bias], "factor": 3.0}, {"params": [other.weight], "lr": 0.5}]
    again = torch.optim.Adam(groups, lr=0.25, weight_decay=0.125)
    load_state(newest(tmp_path), other, again, **ORIGIN)
    assert [group["lr"] for group in again.param_groups] == [0.25, 0.5]
    assert [group["weight_decay"] for group in again.param_groups] == [0.125] * 2
    assert again.param_groups[0]["factor"] == 3.0
    assert set(again.state) == {other.weight}
    moments = optimizer.state[model.weight]["exp_avg"]  # type: ignore[index]
    assert torch.equal(again.state[other.weight]["exp_avg"], moments)


def test_a_state_that_waits_to_be_written_does_not_change_with_the_next_step() -> None:
    model, optimizer = trained()
    state = whole_state(model, optimizer)
    before = {name: value.clone() for name, value in state["model"].items()}
    moments = {
        name: value["exp_avg"].clone() for name, value in state["optimizer"]["state"].items()
    }
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    assert not torch.equal(before["weight"], model.weight)  # type: ignore[arg-type]
    for name, value in before.items():
        assert torch.equal(state["model"][name], value)
        assert torch.equal(state["optimizer"]["state"][name]["exp_avg"], moments[name])


def test_a_checkpoint_cut_off_while_it_was_written_does_not_count(tmp_path: Path) -> None:
    first, second = save(tmp_path, 5), save(tmp_path, 10)
    assert newest(tmp_path).uri == str(second)
    (second / "meta-0.json").unlink()
    assert newest(tmp_path).uri == str(first)


def test_one_that_may_not_be_written_any_more_never_counts(tmp_path: Path) -> None:
    def lost() -> None:
        raise ValueError("another writer")

    with pytest.raises(ValueError, match="another writer"):
        save_checkpoint(
            str(tmp_path), whole_state(*trained()), Marker(step=5, **ORIGIN), may_write=lost
        )
    assert newest_sound(str(tmp_path)) is None


def test_a_writer_after_whom_another_came_replaces_nothing(tmp_path: Path) -> None:
    """A writer was halted between its last look at the lease and its marker."""
    late, model = Marker(step=5, **ORIGIN, writer=1), trained()
    save_checkpoint(str(tmp_path), whole_state(*model), replace(late, writer=2))
    uri, late = save_checkpoint(str(tmp_path), whole_state(*trained()), late)
    assert newest(tmp_path).marker.writer == 2
    # Unless what came after it is damaged: it is sound, and of the same step.
    (Path(uri) / "meta-2.json").write_bytes(b"")
    assert newest(tmp_path).marker == late
    assert sound(str(tmp_path), uri, 1).marker == late
    prune_checkpoints(str(tmp_path), late, keep=1)
    assert sorted(file.name for file in Path(uri).iterdir()) == ["meta-1.json", state_name(late)]


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert newest_sound(str(tmp_path)) is None


def state_file(checkpoint: Path) -> Path:
    (path,) = checkpoint.glob("state-*.pt")
    return path


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif how == "emptied":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "removed"])
@pytest.mark.parametrize("file", ["state", "meta-0.json", "page"])
def test_the_newest_sound_one_is_used_and_what_was_passed_over_is_said(
    tmp_path: Path, file: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = save(tmp_path, 5), save(tmp_path, 10)
    (page,) = marker_of(second).history
    paths = {"state": state_file(second), "page": tmp_path / "history" / page}
    damage(paths.get(file, second / file), how)
    with caplog.at_level(logging.WARNING):
        assert newest(tmp_path).uri == str(first)
    # Without its marker it was never finished: that is no damage.
    said = [] if (file, how) == ("meta-0.json", "removed") else [f"checkpoint: {second}: "]
    assert [text.split("damaged ")[1][: len(said[0])] for text in caplog.messages] == said


def test_every_flipped_bit_of_a_marker_is_found(tmp_path: Path) -> None:
    marker = save(tmp_path, 5) / "meta-0.json"
    content = marker.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        marker.write_bytes(changed)
        try:
            same = json.loads(changed) == json.loads(content)  # a blank that became another
        except ValueError:
            same = False
        if not same:
            with pytest.raises(ValueError, match=r"meta-0.json|of a|has format"):
                newest(tmp_path)


def test_a_run_without_a_sound_checkpoint_is_refused_and_not_begun_anew(tmp_path: Path) -> None:
    for step in (5, 10):
        damage(state_file(save(tmp_path, step)), "truncated")
    with pytest.raises(ValueError, match=r"no checkpoint of .* is sound .*0010: .*0005: .*put one"):
        newest_sound(str(tmp_path))


@pytest.mark.parametrize("moment", [1, 2])
def test_who_reads_while_a_checkpoint_is_replaced_sees_the_history_of_one(
    moment: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save(tmp_path, 2)
    reads = 0

    def read_late(run: str, name: str) -> bytes:
        nonlocal reads
        reads += 1
        if reads == moment:
            prune_checkpoints(run, marker_of(save(tmp_path, 4)), keep=1)
        return read_page(run, name)

    monkeypatch.setattr("apdist.training.run_folder.checkpoint.read_page", read_late)
    monkeypatch.setattr("apdist.training.run_folder.pages.read_page", read_late)
    assert [event.step for event in newest_history(str(tmp_path))] == [4]
    assert not caplog.records


def test_only_the_newest_are_kept_with_their_history(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        newest = save(tmp_path, step)
    prune_checkpoints(str(tmp_path), marker_of(newest), keep=2)
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-0000000006", "step-0000000008"]
    pages = {marker_of(tmp_path / "checkpoints" / name).history[0] for name in kept}
    assert {p.name for p in (tmp_path / "history").iterdir()} == pages


def test_what_was_passed_over_does_not_count_among_those_that_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        save(tmp_path, step)
    damage(state_file(tmp_path / "checkpoints" / "step-0000000006"), "flipped")
    (save(tmp_path, 8) / "meta-0.json").unlink()  # cut off
    newest = save(tmp_path, 5)  # gone on from 4, and stopped
    prune_checkpoints(str(tmp_path), marker_of(newest), keep=1)
    assert newest_sound(str(tmp_path)) is not None
    kept = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-0000000005", "step-0000000006", "step-0000000008"]
    assert len(list((tmp_path / "history").iterdir())) == 2  # of those that have a marker


def test_who_writes_late_replaces_nothing(tmp_path: Path) -> None:
    late = Path(
        save_checkpoint(str(tmp_path), whole_state(*trained()), Marker(step=5, **ORIGIN))[0]
    )
    before = state_file(late).read_bytes()
    now = save(tmp_path, 5)  # another state: by another number of workers
    (other,) = set(now.glob("state-*.pt")) - {state_file_of(now)}
    assert other.read_bytes() == before
    prune_checkpoints(str(tmp_path), marker_of(now), keep=2)
    assert state_file(now) == state_file_of(now)


def state_file_of(checkpoint: Path) -> Path:
    return checkpoint / f"state-{marker_of(checkpoint).state_sha256}.pt"


def test_the_newest_is_found_by_number_whatever_its_name_looks_like(tmp_path: Path) -> None:
    save(tmp_path, 999_999)
    big = save(tmp_path, 12_345_678_901)
    assert newest(tmp_path).uri == str(big)


def test_other_options_are_refused(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with pytest.raises(ValueError, match=r"other data, model, loss or training options.*--fork"):
        load_state(newest(tmp_path), *trained(), **ORIGIN | {"config_hash": "another"})
    with pytest.raises(ValueError, match="training on other images"):
        load_state(newest(tmp_path), *trained(), **ORIGIN | {"data_hash": "another"})


@pytest.mark.parametrize(("number", "age"), [(1, "an older"), (99, "a newer")])
def test_another_version_is_refused_in_words(tmp_path: Path, number: int, age: str) -> None:
    marker = save(tmp_path, 5) / "meta-0.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"format": number}))
    with pytest.raises(ValueError, match=f"has format {number} of {age} apdist; this one reads"):
        newest_sound(str(tmp_path))


def test_the_marker_comes_back(tmp_path: Path) -> None:
    marker = marker_of(save(tmp_path, 5))
    assert replace(marker, state_sha256="", history=()) == Marker(step=5, **ORIGIN)
