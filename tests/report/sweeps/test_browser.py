"""The page of a sweep in a browser: parts of axes by mouse and keys, rows, the command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apdist.report.sweep_page import sweep_page
from apdist.report.sweeps import importance
from tests.report.browser import CHROMIUM, Browser, browser
from tests.report.sweeps.records import forty

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")
PASSING = "[...document.querySelectorAll('.course:not(.out)')].length"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path: Path = tmp_path_factory.mktemp("page") / "sweep.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importance, "DRAWS", 2)
        path.write_text(sweep_page(forty()), encoding="utf-8")
    with browser() as found:
        found.open(path)
        yield found


def box(page: Browser, selector: str) -> dict[str, float]:
    """Where an element is on the screen."""
    element = f"document.querySelector('{selector}')"
    page.ask(f"{element}.scrollIntoView({{block: 'center'}})")
    found = page.ask(f"{element}.getBoundingClientRect().toJSON()")
    assert isinstance(found, dict)
    return found


def test_the_page_runs_its_script_and_loads_nothing(page: Browser) -> None:
    assert page.ask("document.querySelector('#parallel .tools').hidden") is False
    wrong = ("Log.entryAdded", "Runtime.exceptionThrown")
    assert [event for event in page.events if event.get("method") in wrong] == []
    assert page.ask(PASSING) == 39


def test_a_part_of_an_axis_is_dragged_and_a_click_ends_it(page: Browser) -> None:
    place = box(page, ".result .rail")
    x, top = place["x"] + place["width"] / 2, place["y"]
    page.mouse("mousePressed", x, top + 2)
    page.mouse("mouseMoved", x, top + place["height"] / 4)
    page.mouse("mouseReleased", x, top + place["height"] / 4)
    script = (
        "document.querySelectorAll('.course').values().filter((line) => "
        "line.dataset.places.split(' ').at(-1) <= 0.25).toArray().length"
    )
    passing = page.ask(PASSING)
    assert 0 < passing < 39
    assert abs(passing - page.ask(script)) <= 1  # a line may lie on the border
    assert page.ask("document.querySelector('#parallel output').value") == f"lines: {passing} of 39"
    page.mouse("mousePressed", x, top + 9)
    page.mouse("mouseReleased", x, top + 9)
    assert page.ask(PASSING) == 39


def test_keys_select_a_part_of_an_axis_and_go_from_line_to_row(page: Browser) -> None:
    page.ask("document.querySelector('.result .rail').focus()")
    page.press("ArrowUp")
    few = page.ask(PASSING)
    assert 0 < few < 39
    page.press("+")
    assert few <= page.ask(PASSING) < 39
    page.ask("document.querySelector('.courses').focus()")
    page.press("ArrowRight")
    best = forty().best
    assert page.ask("document.querySelector('.course.on').dataset.trial") == str(best)
    assert f"calm-otter-{best}: mAP" in page.ask("document.querySelector('.told').textContent")
    assert page.ask(f"document.querySelectorAll('.on[data-trial=\"{best}\"]').length") > 3
    page.press("Enter")
    assert page.ask("document.activeElement.id") == f"t{best}"
    page.ask("document.querySelector('.result .rail').focus()")
    page.press("Escape")
    assert page.ask(PASSING) == 39


def test_the_command_is_copied_or_marked(page: Browser) -> None:
    page.ask("document.querySelector('[data-copy]').click()")
    script = """
        new Promise((done) => {
            const told = document.querySelector(".command output");
            const look = () => (told.value ? done(told.value) : requestAnimationFrame(look));
            look();
        })
    """
    assert page.ask(script) in ("copied", "marked; press Ctrl-C")


def test_the_page_is_no_wider_than_a_phone(page: Browser) -> None:
    page.send(
        "Emulation.setDeviceMetricsOverride",
        width=420,
        height=900,
        deviceScaleFactor=1,
        mobile=True,
    )
    assert page.ask("document.documentElement.scrollWidth") <= 420
