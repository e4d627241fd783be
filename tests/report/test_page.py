"""The templates: what a user names is escaped, what is not given is an error."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from apdist.report.page import fallen, render, signed
from apdist.report.report import write_report
from tests.places import ROOT
from tests.report.pages import HOSTILE, Page, rendered, report


def test_every_text_is_escaped_wherever_a_user_can_put_one() -> None:
    text = rendered(report(HOSTILE))
    page = Page(text)
    assert len(page.attributes("script")) == 1
    assert text.count("<script") == text.count("</script") == 1
    assert HOSTILE in page.words
    assert f"Query: {HOSTILE}" in {picture.get("aria-label") for picture in page.attributes("svg")}


def test_every_text_of_a_report_is_escaped_one_by_one() -> None:
    """Those that a page shows but `report` does not make hostile, and attributes among them."""
    hostile = '"><b onclick=x>&'
    shown = report()
    names = {"label": hostile, "key": hostile, "name": hostile}
    query = replace(shown.gallery[0], group=hostile, **names)
    result = replace(query.results[0], **names)
    assert shown.map
    island = shown.map.islands[0]
    dot = replace(island.dots[0], image=replace(island.dots[0].image, **names))
    islands = (replace(island, label=hostile, dots=(dot,)), *shown.map.islands[1:])
    (pair,) = shown.confusions
    changes: list[dict[str, Any]] = [
        {"title": hostile},
        {"summary": hostile},
        {"settings": {hostile: hostile}},
        {"facts": {hostile: hostile}},
        {"next_commands": ((hostile, hostile),)},
        {"gallery": (replace(query, results=(result,)),)},
        {"confusions": (replace(pair, name=hostile, query=replace(pair.query, **names)),)},
        {"map": replace(shown.map, islands=islands)},
        {"map": replace(shown.map, islands=islands), "classes": None, "gallery": ()},
    ]
    for change in changes:
        text = rendered(replace(shown, **change))
        page = Page(text)
        assert not [
            tag for tag, attributes in page.tags if tag == "b" and attributes.get("onclick")
        ]
        assert text.count("onclick") == text.count("&#34;&gt;&lt;b onclick=x&gt;&amp;") > 0


def test_the_page_runs_its_own_script_and_no_other() -> None:
    text = rendered(report())
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(m["content"] for m in Page(text).attributes("meta") if "http-equiv" in m)
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )
    assert not re.findall(r"innerHTML|insertAdjacentHTML|fetch\(|XMLHttp|WebSocket|eval\(", script)


def test_no_template_puts_a_text_on_the_page_as_it_is() -> None:
    templates = sorted((ROOT / "apdist" / "report" / "templates").rglob("*.html"))
    assert templates
    for template in templates:
        found = re.findall(r"\|\s*safe\b|autoescape|xmlattr|Markup", template.read_text())
        assert not found, template


def test_a_template_that_asks_for_what_it_is_not_given_fails() -> None:
    with pytest.raises(UndefinedError, match="'report' is undefined"):
        render("page.html", [], [], 0)


def test_names_that_are_not_valid_unicode_do_not_stop_the_page(tmp_path: Path) -> None:
    write_report(report("caf\udce9"), tmp_path / "report.html")
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself() -> None:
    text = rendered(report())
    page = Page(text)
    sources = [a[n] for _, a in page.tags for n in ("src", "href", "data") if n in a]
    assert sources
    assert all(str(source).startswith(("data:image/", "#")) for source in sources)
    assert "url(" not in text
    assert "@import" not in text
    assert re.findall(r"https?://", text.replace("http://www.w3.org/2000/svg", "")) == []


def test_every_link_and_every_picture_has_what_it_refers_to() -> None:
    page = Page(rendered(report()))
    places = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    links = [str(attributes["href"]) for _, attributes in page.tags if "href" in attributes]
    inside = {link[1:] for link in links if link.startswith("#")}
    assert len(inside) > 6
    assert inside <= places
    assert len(places) == len([a for _, a in page.tags if a.get("id")])


def test_a_fall_is_one_where_it_is_seen() -> None:
    assert fallen(0.5, 0.4999, 4)
    assert not fallen(0.5, 0.49999, 4)
    assert signed(-0.00001, 4) == "+0.0000"
    assert signed(-0.5, 3) == "\N{MINUS SIGN}0.500"
