"""The page of a sweep: all of it is there, escaped, from whatever record."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from apdist.report.sweep_page import MAX_BYTES, sweep_page
from apdist.report.sweeps import importance
from apdist.training.sweeps.records import SweepRecord
from tests.report.pages import HOSTILE, Page
from tests.report.sweeps.records import drawn, forty, planted, sweep, trial


@pytest.fixture(autouse=True, scope="module")
def few_draws() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "DRAWS", 2)
        yield


@pytest.fixture(scope="module")
def text(few_draws: None) -> str:
    return sweep_page(forty())


def headings(page: Page) -> list[str]:
    lines = page.words.splitlines()
    known = (
        *(
            "The best setting",
            "All settings",
            "Which parameters matter",
            "Each parameter by itself",
        ),
        *("Curves", "Stopped and failed", "Spread over repeats", "Trials", "What was searched"),
    )
    return [line for line in lines if line in known]


def test_every_section_is_there_and_nothing_is_loaded(text: str) -> None:
    page = Page(text)
    assert headings(page) == [
        *("The best setting", "All settings", "Which parameters matter"),
        *("Each parameter by itself", "Curves", "Trials", "What was searched"),
    ]
    assert not [v for _, each in page.tags for v in each.values() if v and v.startswith("http")]
    assert len(page.attributes("script")) == 1
    record = forty()
    best = record.trials[record.best or 0]
    assert f"{best.figures['map']:.4f}" in page.words
    assert [tag["id"] for tag in page.attributes("code") if "id" in tag] == ["command"]


def test_the_command_is_there_to_the_letter() -> None:
    command = "apdist train glyphs --run.name 'a -- b' --loss.kind ap"
    page = Page(sweep_page(sweep(trial(), command=command)))
    lines = page.words.replace("\n", "")
    assert command in lines


def test_every_trial_has_a_row_that_lines_and_points_refer_to(text: str) -> None:
    page = Page(text)
    rows = [row["id"] for row in page.attributes("tr") if "id" in row]
    assert sorted(rows) == sorted(f"t{number}" for number in range(40))
    for tag, count in (("polyline", 39 + 39), ("circle", 39 * 4)):
        trials = [each["data-trial"] for each in page.attributes(tag) if "data-trial" in each]
        assert len(trials) >= count
        assert {f"t{number}" for number in trials} <= set(rows)
    links = {link["href"] for link in page.attributes("a")}
    assert {link[1:] for link in links if link} <= set(rows)
    lines = [each for each in page.attributes("polyline") if "data-places" in each]
    assert all(len((each["data-places"] or "").split()) == 6 for each in lines)


def test_what_was_stopped_or_failed_has_its_reason(text: str) -> None:
    page = Page(text)
    assert page.words.count("CUDA out of memory") >= 2
    assert page.words.count("asha: rung 120") >= 9


def hostile() -> SweepRecord:
    """A record whose every text is hostile."""

    def each(value: Any) -> Any:
        if isinstance(value, str):
            return value + HOSTILE
        if isinstance(value, list | tuple):
            return [each(part) for part in value]
        if isinstance(value, dict):
            return {key + HOSTILE: each(part) for key, part in value.items()}
        return value

    trials = [
        trial(
            number,
            values=(planted(drawn(number)),) * 2,
            params=each(drawn(number)),
            setting=number // 2,
            name=f"a{number}{HOSTILE}",
            reason=HOSTILE,
            test={"map" + HOSTILE: 0.5},
        )
        for number in range(20)
    ]
    trials += [
        trial(20, state="failed", reason=HOSTILE),
        trial(21, state="stopped", reason=HOSTILE),
    ]
    space = [
        {"name": name, "kind": HOSTILE, "values": [HOSTILE], "when": {HOSTILE: [HOSTILE]}}
        for name in trials[0].params
    ]
    texts = dict.fromkeys(("name", "preset", "searcher", "scheduler", "command"), HOSTILE)
    return sweep(*trials, objectives=["map", "-x" + HOSTILE], space=space, **texts)


def test_every_text_is_escaped() -> None:
    text = sweep_page(hostile())
    page = Page(text)
    assert len(page.attributes("script")) == 1
    assert text.count("<script") == text.count("</script") == 1
    assert HOSTILE in page.words


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (sweep(), "None has begun."),
        (sweep(trial()), "Too few trials: 1 setting"),
        (sweep(trial(values=(), state="running"), best=None), "No trial has a figure yet"),
        (sweep(trial(values=(), state="failed", reason="boom"), best=None), "boom"),
        (sweep(*[trial(n, values=(0.5,)) for n in range(9)]), "have the same figure"),
        (sweep(trial(), objectives=["map", "images_per_s"]), "No trial has finished with both"),
    ],
)
def test_a_sweep_of_few_trials_or_none_has_a_page_that_says_so(
    record: SweepRecord, told: str
) -> None:
    assert told in " ".join(Page(sweep_page(record)).words.split())


def test_two_figures_have_a_front_and_repeats_their_spread() -> None:
    trials = [
        trial(
            number,
            values=(0.1 * (number // 2) + 0.01 * (number % 2),),
            params={"model.dim": 64 * (1 + number // 2)},
            setting=number // 2,
            repeat=number % 2,
        )
        for number in range(8)
    ]
    record = sweep(*trials, objectives=["map", "-model.dim"], best=6)
    page = Page(sweep_page(record))
    assert "mAP against model.dim" in page.words
    assert "Spread over repeats" in page.words
    assert "± 0.0071 over 2 seeds, 0.3000 to 0.3100" in page.words
    front = [each for each in page.attributes("circle") if each.get("class") == "spot front"]
    assert len(front) == 3


def test_the_page_of_a_large_sweep_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "MOST", 20)
    few = forty()
    many = [
        dataclasses.replace(
            few.trials[n % 40],
            params=few.trials[n % 40].params
            | {f"training.option_{place}": f"{'long' * 400} {n % 50}" for place in range(12)},
            number=n,
            setting=n,
            name=f"calm-otter-{n}",
            reason="why " * 4000,
        )
        for n in range(700)
    ]
    text = sweep_page(replace(few, trials=many))
    assert len(text.encode()) < MAX_BYTES
    assert "the first 500 of 700" in text


def test_the_same_record_gives_the_same_page(text: str) -> None:
    assert sweep_page(forty()) == text
