"""The templates: what a user names is escaped, what is not given is an error."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from apdist.report.page import page_template
from apdist.report.report import (
    render_report,
    write_report,
)
from tests.places import ROOT
from tests.report.pages import HOSTILE, Page, report


def test_every_text_is_escaped_wherever_a_user_can_put_one() -> None:
    rendered = render_report(report(HOSTILE))
    page = Page(rendered)
    assert page.attributes("script") == []
    assert "<script" not in rendered
    assert HOSTILE in page.words
    assert {image["alt"] for image in page.attributes("img")} >= {f"Query: {HOSTILE}"}


def test_every_text_of_a_report_is_escaped_one_by_one() -> None:
    """Those that a page shows but `report` does not make hostile, and attributes among them."""
    hostile = '"><b onclick=x>&'
    shown = report()
    query = replace(shown.gallery[0], label=hostile, key=hostile, group=hostile)
    result = replace(query.results[0], label=hostile, key=hostile)
    changes: list[dict[str, Any]] = [
        {"title": hostile},
        {"summary": hostile},
        {"settings": {hostile: hostile}},
        {"facts": {hostile: hostile}},
        {"next_commands": ((hostile, hostile),)},
        {"gallery": (replace(query, results=(result,)),)},
    ]
    for change in changes:
        rendered = render_report(replace(shown, **change))
        page = Page(rendered)
        assert not [
            tag for tag, attributes in page.tags if tag == "b" and attributes.get("onclick")
        ]
        assert rendered.count("onclick") == rendered.count("&#34;&gt;&lt;b onclick=x&gt;&amp;") > 0


def test_no_template_puts_a_text_on_the_page_as_it_is() -> None:
    templates = sorted((ROOT / "apdist" / "report" / "templates").glob("*.html"))
    assert templates
    for template in templates:
        found = re.findall(r"\|\s*safe\b|autoescape|xmlattr|Markup", template.read_text())
        assert not found, template


def test_a_template_that_asks_for_what_it_is_not_given_fails() -> None:
    with pytest.raises(UndefinedError, match="'report' is undefined"):
        page_template().render()


def test_names_that_are_not_valid_unicode_do_not_stop_the_page(tmp_path: Path) -> None:
    write_report(report("caf\udce9"), tmp_path / "report.html")
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself() -> None:
    rendered = render_report(report())
    page = Page(rendered)
    sources = [a[n] for _, a in page.tags for n in ("src", "href", "data") if n in a]
    assert sources
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert "url(" not in rendered
    assert "@import" not in rendered
    assert re.findall(r"https?://", rendered) == []
