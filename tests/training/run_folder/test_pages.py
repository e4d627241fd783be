from pathlib import Path

import pytest

from apdist.training.events import StepDone
from apdist.training.run_folder import pages as pages_module
from apdist.training.run_folder.pages import (
    Recorder,
    prune_pages,
    read_pages,
    write_page,
)


def event(step: int) -> StepDone:
    return StepDone(step=step, figures={"loss": 1 / 3 + step}, time_ms=1000 + step)


def committed(run: Path, recorder: Recorder) -> list[str]:
    """What a checkpoint does with the history."""
    pages, content = recorder.cut()
    if content:
        write_page(str(run), pages[-1], content)
    return pages


@pytest.fixture(params=[1, 100, 1 << 20])
def page_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(pages_module, "PAGE_BYTES", request.param)
    size: int = request.param
    return size


def test_each_checkpoint_has_all_events_up_to_it(tmp_path: Path, page_bytes: int) -> None:
    recorder = Recorder(str(tmp_path))
    pages: dict[int, list[str]] = {}
    for step in range(1, 31):
        recorder.add(event(step))
        if step % 7 == 0:
            pages[step] = committed(tmp_path, recorder)
    for step, names in pages.items():
        assert read_pages(str(tmp_path), names) == [event(s) for s in range(1, step + 1)]


def test_a_history_goes_on_from_any_checkpoint_and_has_each_step_once(
    tmp_path: Path, page_bytes: int
) -> None:
    first = Recorder(str(tmp_path))
    for step in range(1, 11):
        first.add(event(step))
        if step == 5:
            at_5 = committed(tmp_path, first)
    committed(tmp_path, first)  # a checkpoint that turns out to be damaged
    again = Recorder(str(tmp_path), at_5)
    for step in range(6, 9):
        again.add(event(step))
    pages = committed(tmp_path, again)
    assert read_pages(str(tmp_path), pages) == [event(step) for step in range(1, 9)]


def test_a_checkpoint_without_news_writes_no_page(tmp_path: Path, page_bytes: int) -> None:
    recorder = Recorder(str(tmp_path))
    assert recorder.cut() == ([], b"")
    recorder.add(event(1))
    pages = committed(tmp_path, recorder)
    assert committed(tmp_path, recorder) == pages
    assert committed(tmp_path, Recorder(str(tmp_path), pages)) == pages


def test_a_checkpoint_writes_about_a_page_however_long_the_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "PAGE_BYTES", 1000)
    recorder = Recorder(str(tmp_path))
    for step in range(1000):
        recorder.add(event(step))
        assert len(recorder.cut()[1]) < 1200


@pytest.mark.parametrize("damage", [b"", b"x", None], ids=["emptied", "changed", "removed"])
def test_a_damaged_page_is_an_error(tmp_path: Path, damage: bytes | None) -> None:
    recorder = Recorder(str(tmp_path))
    recorder.add(event(1))
    (name,) = committed(tmp_path, recorder)
    path = tmp_path / "history" / name
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises((ValueError, OSError), match=r"checksum differs|does not exist"):
        read_pages(str(tmp_path), [name])


def test_a_page_cannot_lie_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no page of a history"):
        read_pages(str(tmp_path), ["../config.json"])


def test_pages_that_no_checkpoint_names_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path))
    recorder.add(event(1))
    (old,) = committed(tmp_path, recorder)
    recorder.add(event(2))
    (new,) = committed(tmp_path, recorder)
    (tmp_path / "history" / "note.txt").write_text("mine")
    prune_pages(str(tmp_path), [new])
    assert sorted(p.name for p in (tmp_path / "history").iterdir()) == sorted([new, "note.txt"])
    assert old != new
