import dataclasses
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.state import SweepState, read_head, read_state, write_head


def record(number: int, state: str = "waiting", **more: object) -> TrialRecord:
    known = {"number": number, "name": f"a-{number}", "setting": number, "repeat": 0, "seed": 0}
    given = {"params": {"loss.ks": [1, 2], "x": 0.1}, "state": state, **more}
    return TrialRecord(**{**known, **given})  # type: ignore[arg-type]


def test_what_was_kept_is_read_again(tmp_path: Path) -> None:
    state = SweepState(str(tmp_path))
    for number in range(3):
        state.save(record(number))
    state.save(record(1, "running", curve=[(0, {"map": 0.1}), (10, {"map": 0.3})]))
    assert read_state(str(tmp_path)).records == state.records
    assert state.named("a-1").state == "running"
    write_head(str(tmp_path), {"trials": 3})
    assert read_head(str(tmp_path)) == {"trials": 3}


def test_an_outage_of_the_store_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SweepState(str(tmp_path))
    state.save(record(0))

    def away(uri: str, data: bytes) -> None:
        raise storage.StorageError(f"{uri} {len(data)}")

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_bytes", away)
        state.save(record(0, "running"))
        state.save(record(1))
    assert read_state(str(tmp_path)).records == [record(0)]
    state.save(record(2))
    assert read_state(str(tmp_path)).records == [record(0, "running"), record(1), record(2)]


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b'{"curve": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, damage: bytes) -> None:
    state = SweepState(str(tmp_path))
    for number in range(2):
        state.save(record(number))
    place = tmp_path / "trials" / "00000.json"
    place.write_bytes(damage)
    with pytest.raises(ValueError, match=r"00000.json is missing or damaged"):
        read_state(str(tmp_path))
    place.unlink()
    with pytest.raises(ValueError, match=r"00000.json is missing or damaged"):
        read_state(str(tmp_path))


def test_what_is_no_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no sweep"):
        read_head(str(tmp_path))
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(ValueError, match="is damaged"):
        read_head(str(tmp_path))


def test_figures_of_saved_weights_come_before_the_last_ones() -> None:
    trial = record(0, curve=[(10, {"map": 0.3})])
    assert trial.figures == {"map": 0.3}
    assert dataclasses.replace(trial, chosen={"map": 0.2}).figures == {"map": 0.2}
    assert record(0).figures == {}
