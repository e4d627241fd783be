from dataclasses import replace
from pathlib import Path

import pytest

from apdist.config import Config, DataConfig, RunConfig, override
from apdist.data import storage
from apdist.data.decoders import resolved
from apdist.training.events import Started, StepDone
from apdist.training.run_folder.checkpoint import Marker, save_checkpoint
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.pages import Recorder, write_page
from apdist.training.run_folder.runs import Run, create_run, open_run

SUMMARY = (
    *("num_images", "num_classes", "num_lone_classes"),
    *("num_capped_classes", "steps_per_epoch"),
)


def config_in(tmp_path: Path, name: str = "") -> Config:
    return replace(Config(), run=RunConfig(output=str(tmp_path), name=name))


def test_a_run_comes_back_with_options_and_history(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    run.save_info(tracking_run_id="id")
    run.add(StepDone(step=1, figures={"loss": 0.5}))
    again = open_run(run.uri)
    assert (again.config, again.preset) == (run.config, "glyphs")
    assert again.info == {"tracking_run_id": "id"}
    assert again.history == run.history


def test_a_run_keeps_its_decoder_with_versions(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    assert run.config.data.decoder == open_run(run.uri).config.data.decoder == resolved("auto")
    other = override(config_in(tmp_path, "b"), {"data.decoder": "pillow-0.1"})
    with pytest.raises(ValueError, match="data.decoder is pillow-0.1, and here is pillow-"):
        create_run(other, "glyphs")
    assert not (tmp_path / "b").exists()


def test_options_that_an_editor_gave_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    path = Path(run.uri, "config.json")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert open_run(run.uri).config == run.config


def test_an_existing_name_is_refused_and_the_remedy_named(tmp_path: Path) -> None:
    create_run(config_in(tmp_path, "a"), "glyphs")
    with pytest.raises(ValueError, match=r"exists; choose another --run.name.*--resume"):
        create_run(config_in(tmp_path, "a"), "glyphs")


def test_of_two_that_begin_a_run_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = create_run(config_in(tmp_path, "a"), "glyphs")
    before = Path(first.uri, "config.json").read_bytes()
    monkeypatch.setattr(storage, "is_empty", lambda uri: True)  # as both have found it
    with pytest.raises(ValueError, match="exists; choose another"):
        create_run(replace(config_in(tmp_path, "a"), data=DataConfig(image_size=8)), "glyphs")
    assert Path(first.uri, "config.json").read_bytes() == before


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no run"):
        open_run(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "Expecting property name"),
        ("config.json", "[]", "expected sections with options"),
        ("config.json", '{"loss": 3}', "expected sections with options"),
        ("config.json", '{"loss": {"num_bin": 3}}', "did you mean 'loss.num_bins'"),
        ("run.json", "[]", "expected an object"),
        ("run.json", "", "Expecting value"),
        ("metrics.jsonl", "{}\n", "expected an event of kind phase, start, step"),
    ],
)
def test_a_damaged_file_of_a_run_is_named_with_the_reason(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    Path(run.uri, name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} is damaged .*{message}.* train a new run"):
        open_run(run.uri)


def test_a_sweep_is_no_run(tmp_path: Path) -> None:
    sweep = create_run(config_in(tmp_path, "a"), "sweep of glyphs")
    with pytest.raises(ValueError, match="is a sweep; its trials are the runs"):
        open_run(sweep.uri)


def started(step: int, history: tuple[str, ...] = ()) -> Started:
    return Started(
        step=step,
        history=list(history),
        hosts=["here"],
        **dict.fromkeys(SUMMARY, 1),  # type: ignore[arg-type]
        chunk_size=128,
        chunk_size_reason="",
        activations="store",
        activations_reason="it fits",
        gathered_once=False,
        watched="test",
    )


def steps(run: Run) -> list[int]:
    return [event.step for event in run.history]


def test_steps_that_are_done_again_are_there_once(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    recorder = Recorder(run.uri)
    pages: list[str] = []
    for step in range(1, 6):
        run.record(StepDone(step=step, figures={}))
        recorder.add(StepDone(step=step, figures={"loss": 0.5}))
        if step == 3:
            pages, content = recorder.cut()
            write_page(run.uri, pages[0], content)
    run.record(started(3, tuple(pages)))
    assert steps(run) == steps(open_run(run.uri)) == [1, 2, 3]
    for step in (5, 4, 4, 5):  # the first was sent by a worker that is gone
        run.record(StepDone(step=step, figures={}))
    assert steps(run) == steps(open_run(run.uri)) == [1, 2, 3, 4, 5]


def test_what_a_dead_driver_did_not_record_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    recorder = Recorder(run.uri)
    for step in range(1, 6):
        recorder.add(StepDone(step=step, figures={}))
    pages, content = recorder.cut()
    write_page(run.uri, pages[0], content)
    marker = Marker(step=5, config_hash="a", data_hash="b", history=tuple(pages))
    save_checkpoint(run.uri, {}, marker)
    run.record(StepDone(step=1, figures={}))
    assert steps(open_run(run.uri)) == [1, 2, 3, 4, 5]
    Path(run.uri, "metrics.jsonl").unlink()
    assert steps(open_run(run.uri)) == [1, 2, 3, 4, 5]


def test_a_run_of_another_version_is_refused_in_words(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    Path(run.uri, "run.json").write_text('{"preset": "glyphs"}')
    with pytest.raises(ValueError, match="has format 1 of an older apdist; this one reads format"):
        open_run(run.uri)


def test_a_history_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    run.add(StepDone(step=1, figures={}))
    with Path(run.uri, "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')
    assert len(open_run(run.uri).history) == 1


def test_a_run_without_a_name_is_named_after_its_preset(tmp_path: Path) -> None:
    assert create_run(config_in(tmp_path), "glyphs").name.startswith("glyphs-2")


def test_two_that_begin_in_one_second_get_two_folders_and_a_given_name_goes_to_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    config = override(Config(), {"run.output": str(tmp_path)})
    assert [create_run(config, "a").name for _ in range(3)] == [
        "a-20260101-000000",
        "a-20260101-000000-2",
        "a-20260101-000000-3",
    ]
    # Both have looked, and found nothing: what counts is who writes the options first.
    monkeypatch.setattr("apdist.data.storage.is_empty", lambda _: True)
    named = override(config, {"run.name": "mine"})
    create_run(named, "a")
    with pytest.raises(ValueError, match="mine exists"):
        create_run(named, "b")
    assert open_run(str(tmp_path / "mine")).preset == "a"


def test_a_refused_run_that_another_process_has_gone_on_with_stays(tmp_path: Path) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    with held(run.uri, print):
        assert not run.discard_if_untouched()
    assert open_run(run.uri).preset == "glyphs"
    assert run.discard_if_untouched()
    assert not Path(run.uri).exists()


def test_a_refused_run_takes_the_folders_with_it_that_were_made_for_it(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    runs = [create_run(config_in(tmp_path / "there/new/runs", name), "glyphs") for name in "ab"]
    assert runs[1].discard_if_untouched()
    assert Path(runs[0].uri).exists()
    assert runs[0].discard_if_untouched()
    assert not list((tmp_path / "there").iterdir())


def test_changed_options_are_kept_once_the_training_has_begun_and_not_before(
    tmp_path: Path,
) -> None:
    run = create_run(config_in(tmp_path, "a"), "glyphs")
    run.config = override(run.config, {"evaluation.every_steps": 7})
    assert open_run(run.uri).config != run.config
    run.record(started(0))
    assert open_run(run.uri).config == run.config
