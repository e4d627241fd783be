"""What is said of a sweep at its end."""

from dataclasses import replace
from pathlib import Path

import pytest

from apdist.config import Config
from apdist.data import storage
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import create_run
from apdist.training.sweeps.driving import Driver
from apdist.training.sweeps.state import SweepState
from apdist_verbs import report
from apdist_verbs.sweeping.begun import Begun
from apdist_verbs.sweeping.showing import read_sweep, record_of, show
from apdist_verbs.sweeping.trials import trial_config
from tests.pipelines.sweeping.sweeps import begun_of
from tests.training.sweeps.plans import MAP_AND_SIZE, plan_of

SPACE = '["model.dim"]\ndistribution = "choice"\nvalues = [16, 8, 4]\n'


@pytest.fixture
def begun(small_config: Config) -> Begun:
    return begun_of(small_config, SPACE, plan_of(3, objectives=MAP_AND_SIZE))


def driven(begun: Begun, values: tuple[float, ...]) -> Driver:
    """The state after trials that came to ``values``; each has its run."""
    state = SweepState(begun.run.uri)
    driver = Driver(begun.plan, begun.dimensions(), begun.config, state, lambda _: None)
    for value in values:
        record = driver.next()
        assert record is not None
        own = trial_config(begun.config, begun.run.uri, record.name, record.params, record.seed)
        create_run(own, "glyphs")
        driver.evaluated(record.name, 6, {"map": value})
        driver.finished(record.name, 1.0, {})
    return driver


def test_the_best_settings_are_told_with_their_test_figures_and_the_front(
    begun: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = driven(begun, (0.5, 0.25, 0.375))
    for number, value in ((0, 0.125), (2, 0.0625)):
        driver.measured_on_test(driver.records[number].name, {"map": value})
    show(begun, driver, "holdout")
    said = capsys.readouterr().out
    assert "3 settings of mine, best first" in said
    assert "no setting is better in map and -model.dim than" in said
    assert "apdist train glyphs" in said
    rows = [line for line in said.splitlines() if line.startswith("│")][:3]
    best = [next(v for v in ("0.5000", "0.3750", "0.2500") if f" {v} " in row) for row in rows]
    assert best == ["0.5000", "0.3750", "0.2500"]
    assert "mAP test" in said
    assert ["0.1250" in rows[0], "0.0625" in rows[1], "0.0625" in rows[2]] == [True, True, False]
    assert "flatters" not in said


def test_figures_that_settings_were_compared_by_are_no_test(
    begun: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = driven(begun, (0.5,))
    show(begun, driver, "test")
    assert "the best figure flatters" in " ".join(capsys.readouterr().out.split())


def test_a_sweep_without_a_finished_trial_says_why(begun: Begun) -> None:
    driver = driven(begun, ())
    record = driver.next()
    assert record is not None
    for _ in range(2):
        driver.failed(record.name, 1.0, "no memory")
    with pytest.raises(ValueError, match=f"no trial came to its end; {record.name} failed: no mem"):
        show(begun, driver, "test")
    assert record.name in Path(begun.run.uri, "sweep.html").read_text()


def test_a_sweep_whose_hours_are_over_says_how_to_go_on(
    begun: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = driven(begun, ())
    assert driver.next() is not None
    driver.closing = "the hours of the sweep were over"
    show(begun, driver, "test")
    said = " ".join(capsys.readouterr().out.split())
    assert "no trial came to its end; there was no time for one" in said
    assert "go on with: apdist sweep --resume" in said
    assert Path(begun.run.uri, "sweep.html").exists()


def test_a_space_with_fewer_settings_than_were_asked_for_is_told(
    begun: Begun, capsys: pytest.CaptureFixture[str]
) -> None:
    driver = driven(replace(begun, plan=replace(begun.plan, settings=9)), (0.5, 0.25, 0.375))
    assert driver.next() is None
    show(replace(begun, plan=driver.plan), driver, "holdout")
    assert "the space has no more than 3 different settings of 9" in capsys.readouterr().out


def test_the_record_has_what_a_page_shows(begun: Begun) -> None:
    driver = driven(begun, (0.5, 0.625))
    record = record_of(begun, driver.records)
    assert (record.name, record.best, record.preset) == ("mine", 1, "glyphs")
    assert record.command == "apdist train glyphs --model.dim 8"
    assert record.objectives == ["map", "-model.dim"]
    assert record.space == [
        {"name": "model.dim", "kind": "choice", "log": False, "values": [16, 8, 4]}
    ]
    empty = record_of(begun, [])
    assert (empty.best, empty.command) == (None, "")


def test_a_sweep_is_read_from_its_folder_and_nothing_is_changed_there(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun.save()
    driver = driven(begun, (0.5, 0.625))
    driver.next()  # one that runs
    with held(begun.run.uri, print), monkeypatch.context() as frozen:
        frozen.setattr(storage, "write_bytes", None)
        found = read_sweep(begun.run.uri)
    assert found == record_of(begun, driver.records)
    assert [trial.state for trial in found.trials] == ["finished", "finished", "running"]


def test_no_trial_of_a_sweep_that_was_killed_runs(begun: Begun) -> None:
    begun.save()
    driver = driven(begun, (0.5,))
    driver.next()
    states = [trial.state for trial in read_sweep(begun.run.uri).trials]
    assert states == ["finished", "waiting"]


def test_report_writes_the_page_of_a_sweep(
    begun: Begun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun.save()
    driven(begun, (0.5, 0.625))
    assert report.main([begun.run.uri]) == 0
    place = storage.join(begun.run.uri, "sweep.html")
    assert f"report: {place}" in capsys.readouterr().out
    page = storage.read_bytes(place)
    assert b"apdist train glyphs" in page
    other = tmp_path / "other.html"
    assert report.main(["--run", begun.run.uri, "--out", str(other)]) == 0
    assert other.read_bytes() == page
    with pytest.raises(ValueError, match="name a trial"):
        report.main([begun.run.uri, "--split", "test"])


def test_a_page_tells_no_secret_of_an_address(
    begun: Begun, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = "http://me:c4nary@host/set?sv=c4nary"
    driver = driven(begun, (0.5,))
    driver.records[0].params["data.shards"] = signed
    monkeypatch.setattr(
        "apdist.training.sweeps.dimension.Dimension.described",
        lambda self: {"name": self.name, "values": [signed], "when": {"data.shards": [signed]}},
    )
    record = record_of(begun, driver.records)
    assert "c4nary" not in repr(record)
    assert "--data.shards 'http://...@host/set?...'" in record.command
    assert "host/set" in str(record.space)
    assert driver.records[0].params["data.shards"] == signed
