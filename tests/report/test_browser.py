"""The page in a browser: search, sort, keys, enlarged pictures, the map; and without a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report.browser import CHROMIUM, Browser, browser
from tests.report.pages import HOSTILE, rendered, report

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(rendered(report(HOSTILE)), encoding="utf-8")
    with browser() as found:
        found.open(path)
        yield found


def rested(page: Browser, x: float, y: float) -> None:
    """What a browser sends when the page has scrolled under a pointer at rest."""
    page.mouse("mouseMoved", x, y)


def focused(page: Browser) -> str:
    return str(page.ask("document.activeElement.id"))


def test_the_page_runs_its_script_and_nothing_else(page: Browser) -> None:
    assert page.ask("document.getElementById('keys').hidden") is False
    errors = [
        e for e in page.events if e.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown")
    ]
    assert errors == []
    asked = [
        e["params"]["request"]["url"]
        for e in page.events
        if e.get("method") == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    # A script that slipped in would not run, and nothing can be fetched.
    added = (
        "document.body.append(Object.assign(document.createElement('script'), {text: 'bad = 1'}))"
    )
    assert page.ask(f"{added}; typeof bad") == "undefined"
    assert (
        page.ask("fetch('data:text/plain,x').then(() => 'fetched', () => 'refused')") == "refused"
    )


def test_slash_goes_to_the_search_which_hides_other_classes(page: Browser) -> None:
    page.press("/")
    assert focused(page) == "find-class"
    for letter in "pear":
        page.press(letter)
    shown = "[...document.querySelectorAll('#classes tbody tr')].map((row) => row.hidden)"
    assert page.ask(shown) == [True, False]
    assert page.ask("document.querySelector('.finder output').value") == "1 of 2"
    # A link to the hidden class shows it again.
    page.ask(
        "new Promise((r) => { addEventListener('hashchange', () => r()); location.hash = 'c0'; })"
    )
    assert page.ask(shown) == [False, False]
    assert focused(page) == "c0"


def test_a_click_on_a_column_sorts_up_then_down(page: Browser) -> None:
    names = "[...document.querySelectorAll('#classes tbody th')].map((cell) => cell.textContent)"
    click = "document.querySelectorAll('#classes thead button')[1].click()"
    page.ask(click)
    assert page.ask(names) == [HOSTILE, "pear"]
    page.ask(click)
    assert page.ask(names) == ["pear", HOSTILE]
    assert page.ask("document.querySelector('#classes th[aria-sort]').ariaSort") == "descending"


def test_keys_go_from_query_to_query_and_stop_at_the_ends(page: Browser) -> None:
    page.ask("document.activeElement.blur(); scrollTo(0, 0)")
    seen = []
    for key in ("j", "j", "j", "k", "ArrowRight", "ArrowLeft", "k"):
        page.press(key)
        seen.append(focused(page))
    assert seen == ["q0", "q3", "q3", "q0", "q3", "q0", "q0"]


def test_a_picture_is_enlarged_arrows_go_on_and_escape_returns_to_it(page: Browser) -> None:
    page.ask("document.querySelector('#q0 .results .pic').focus()")
    page.press("Enter")
    assert page.ask("document.querySelector('dialog').open") is True
    words = "document.querySelector('dialog .words').textContent"
    use = "document.querySelector('dialog use').getAttribute('href')"
    assert (
        page.ask(words) == f"Result 1, hit, similarity 0.910: {HOSTILE}\na/1.png\nkey key-a/1.png"
    )
    first = page.ask(use)
    page.press("ArrowRight")
    assert page.ask(words).startswith("Result 2, miss")
    assert page.ask(use) != first
    page.press("ArrowLeft")
    page.press("ArrowLeft")
    assert page.ask(words).startswith("Query")
    page.ask(
        "shut = new Promise((r) => document.querySelector('dialog').addEventListener('close', r));0"
    )
    page.press("Escape")
    back = "shut.then(() => document.activeElement.getAttribute('aria-label'))"
    assert page.ask(back) == f"Query: {HOSTILE}"
    assert page.ask("document.querySelector('dialog').open") is False


def test_the_map_shows_a_dot_under_the_pointer_and_goes_to_its_query(page: Browser) -> None:
    page.ask("document.querySelector('.dots').scrollIntoView({block: 'center'})")
    x, y = page.ask(
        "(() => { const r = document.querySelector('a[data-key=\"key-0.png\"] path')"
        ".getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    page.mouse("mouseMoved", x, y)
    tip = "document.querySelector('.tip')"
    assert page.ask(f"{tip}.hidden") is False
    assert page.ask(f"{tip}.querySelector('p').textContent") == (
        f"{HOSTILE}\nAP 0.500\n0.png\nkey key-0.png"
    )
    picture = page.ask(f"{tip}.querySelector('use').getAttribute('href')")
    assert page.ask(f"document.querySelector('{picture}') !== null") is True
    # The browser focuses the query at once, the page again when it hears of the new address: keys
    # that come between the two would be lost.
    page.ask(
        "void (globalThis.heard = new Promise("
        "(done) => addEventListener('hashchange', () => done(), {once: true})))"
    )
    page.mouse("mousePressed", x, y)
    page.mouse("mouseReleased", x, y)
    page.ask("heard")
    assert page.ask("location.hash") == "#q0"
    assert focused(page) == "q0"
    page.ask("document.querySelector('.dots').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "+"):
        page.press(key)
        rested(page, x, y)
    assert page.ask(f"{tip}.querySelector('p').textContent").startswith("pear")
    assert (
        float(page.ask("document.querySelector('.dots').getAttribute('viewBox')").split()[2]) < 700
    )
    page.mouse("mouseMoved", 1, 1)
    assert page.ask(f"{tip}.hidden") is True
    for key in ("ArrowRight", "ArrowRight", "ArrowRight"):
        page.press(key)
    assert page.ask(f"{tip}.hidden") is False
    page.press("Enter")
    assert page.ask("location.hash") == "#c1"


def test_without_a_script_everything_is_there_and_nothing_dead(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(rendered(report()).replace("script-src", "style-src-attr"), encoding="utf-8")
    with browser() as found:
        found.open(path)
        assert found.ask("document.getElementById('keys').hidden") is True
        assert found.ask("document.querySelector('.finder').hidden") is True
        assert found.ask("document.querySelectorAll('main button').length") == 3  # in hidden tools
        assert found.ask("document.querySelector('.tools').hidden") is True
        sides = found.ask(
            "[...document.querySelectorAll('main .pic[role=img] use')]"
            ".map((use) => use.getBBox().width)"
        )
        assert len(sides) == 8
        assert min(sides) > 20
