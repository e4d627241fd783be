"""`apdist runs`: runs in every state, with what to do next."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from apdist.config import Config, override
from apdist.data import storage
from apdist.training.events import Ended, Evaluated
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import SWEEP, create_run
from apdist.training.sweeps.state import SweepState
from apdist_verbs import runs
from apdist_verbs.start.running import train_run
from tests.pipelines.sweeping.sweeps import begun_of
from tests.pipelines.test_described import closed
from tests.pipelines.test_resume import stopped
from tests.report.sweeps.records import trial
from tests.training.sweeps.plans import plan_of

pytestmark = pytest.mark.filterwarnings("ignore:::ray", "ignore::DeprecationWarning")


def test_runs_are_listed_with_what_to_do_next(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped(small_config, monkeypatch, 2)
    done = run.steps_done
    finished = create_run(override(small_config, {"run.name": "b", "training.steps": 1}), "glyphs")
    assert train_run(finished) == 0
    new = create_run(override(small_config, {"run.name": "new"}), "glyphs")
    measured = Evaluated(step=0, split="holdout", figures={"map": 0.25}, seconds=1)
    new.record(measured)
    broken = create_run(override(small_config, {"run.name": "old"}), "glyphs")
    Path(broken.uri, "run.json").write_text(json.dumps({"preset": "glyphs"}))
    capsys.readouterr()
    with held(new.uri, print):
        assert runs.main([str(Path(run.uri).parent)]) == 0
    said = capsys.readouterr().out
    words = [line.replace("│", " ").split() for line in said.splitlines() if "/6" in line]
    rows = {row[0]: row[1:] for row in words}
    assert rows["a"][:2] == ["stopped", f"{done}/6"]
    assert rows["new"][:4] == ["training", "0/6", "0.2500", "holdout"]
    joined = said.replace("\n", "")
    assert "finished" in said
    assert f"apdist train --resume {run.uri}" in joined
    assert "has format 1 of an older apdist" in said.replace("\n", " ")

    with held(new.uri, print):
        assert runs.main([str(Path(run.uri).parent), "--json"]) == 0
    told = {Path(row["uri"]).name: row for row in json.loads(capsys.readouterr().out)}
    assert told["new"] == {
        "uri": new.uri,
        "kind": "run",
        "state": "training",
        "done": 0,
        "total": 6,
        "unit": "steps",
        "map": 0.25,
        "split": "holdout",
        "last_event_ms": new.history[-1].time_ms,
        "hint": told["new"]["hint"],
    }
    assert (told["b"]["state"], told["b"]["hint"]) == ("finished", None)
    assert told["a"]["hint"].endswith(f"apdist train --resume {run.uri}")
    assert (told["old"]["state"], told["old"]["total"]) == ("damaged", None)


def test_sweeps_are_listed_with_their_trials_and_how_to_go_on(
    small_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    uris = {}
    for name, num_ended in (("search", 1), ("half", 3), ("whole", 4)):
        begun = begun_of(small_config, "", plan_of(2, name=name, repeats=2))
        begun.save()
        uris[name] = begun.run.uri
        for number in range(4):
            SweepState(begun.run.uri, [trial(n) for n in range(number)]).save(
                trial(number, state="stopped" if number < num_ended else "running")
            )
    Path(create_run(small_config, SWEEP + "glyphs").uri, "sweep.json").write_text("{}")
    with held(uris["search"], print):
        assert runs.main([str(Path(uris["half"]).parent)]) == 0
    said = capsys.readouterr().out
    rows = [line.replace("│", " ").split() for line in said.splitlines() if " sweep, " in line]
    assert sorted(rows) == [
        ["half", "sweep,", "stopped", "3/4", "trials"],
        ["search", "sweep,", "searching", "1/4", "trials"],
        ["whole", "sweep,", "finished", "4/4", "trials"],
    ]
    joined = said.replace("\n", "")
    assert joined.count("apdist sweep --resume") == 1
    assert f"apdist sweep --resume {uris['half']}" in joined
    assert all(f"apdist runs {uri}" in joined for uri in uris.values())
    assert "damaged" in said


def test_a_run_that_nobody_else_may_read_hides_no_other(
    small_config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = create_run(small_config, "glyphs")
    theirs = create_run(override(small_config, {"run.name": "theirs"}), "glyphs")
    monkeypatch.setattr(storage, "exists", closed(theirs.uri, storage.exists))
    assert runs.main([str(Path(mine.uri).parent)]) == 0
    said = capsys.readouterr().out
    assert "0/6" in said
    rows = [line.replace("│", " ").split() for line in said.splitlines() if "unreadable" in line]
    assert rows == [["theirs", "unreadable"]]
    assert f"{theirs.uri}/config.json: permission denied; check" in said.replace("\n", "")


def test_the_figure_of_a_run_says_of_which_split_it_is_unless_of_the_reported_one(
    small_config: Config,
) -> None:
    run = create_run(small_config, "glyphs")
    assert runs.score_of(run) == (None, "")

    def measured(split: str, step: int, value: float) -> Evaluated:
        return Evaluated(step=step, split=split, figures={"map": value}, seconds=1)

    run.history = [measured("holdout", 0, 0.1), measured("test", 0, 0.2)]
    assert runs.score_of(run) == (0.2, "test")
    run.history.append(measured("holdout", 3, 0.3))
    assert runs.score_of(run) == (0.3, "holdout")
    run.history += [measured("test", 6, 0.4), measured("holdout", 6, 0.5)]
    run.history.append(Ended(step=6, model_id="m", weights="the last"))
    assert runs.score_of(run) == (0.4, "test")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-3, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (86400, "1 d"), (863000, "10 d")],
)
def test_an_age_has_the_largest_unit_that_it_reaches(seconds: float, told: str) -> None:
    assert runs.age_of(seconds) == told


def test_the_run_that_ended_last_is_the_one_to_measure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = int(time.time() * 1000)

    def row(name: str, state: Any, hours: int, **more: Any) -> runs.Listed:
        ended = now - 3_600_000 * hours
        return runs.Listed(uri=f"runs/{name}", state=state, done=6, total=6, time_ms=ended, **more)

    rows = [row("a", "finished", 9), row("b", "finished", 5), row("c", "finished", 7)]
    others = [row("d", "stopped", 2), row("e", "finished", 1, kind="sweep")]
    assert rows[0].cells()[-1] == "9 h"
    runs.show("runs", [*rows, *others])
    assert "apdist evaluate --run runs/b" in " ".join(capsys.readouterr().out.split())
    runs.show("runs", others)
    assert "apdist evaluate" not in capsys.readouterr().out
