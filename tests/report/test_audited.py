"""The page of an audit: self-contained, escaped, each picture once."""

from __future__ import annotations

from dataclasses import replace

from apdist.report.audited import AuditedPicture, AuditPage, Section, ShownFinding, render_audit
from tests.report.pages import HOSTILE, Page, picture


def shot(name: str, fate: str = "", text: str = "") -> AuditedPicture:
    return AuditedPicture(
        image=picture("red"),
        name=f"{name}.jpg{text}",
        key=f"{name}{text}",
        label=f"apple{text}",
        split=f"train{text}",
        fate=f"{fate}{text}",
    )


def page(text: str = "") -> AuditPage:
    asked, other = shot("one", "kept", text), shot("two", "in exclude.txt", text)
    finding = ShownFinding(
        number=0,
        asked=asked,
        words=(f"2 times{text}",),
        lists=((f"The same picture{text}", (other, asked)), ("an empty list", ())),
    )
    sections = (
        Section(title=f"Leaks{text}", intro=f"Bad{text}", count=3, findings=(finding,)),
        Section(title=f"Outliers{text}", intro=f"Far{text}", count=0, findings=()),
    )
    return AuditPage(
        title=f"Audit{text}",
        summary=f"9 images{text}",
        notices=(f"Beware{text}",),
        sections=sections,
        commands=((f"Train{text}", f"apdist train{text}"),),
        max_bytes=1_000_000,
    )


def test_findings_are_shown_with_their_pictures_each_once() -> None:
    text, notes = render_audit(page())
    shown = Page(text)
    assert notes == ()
    for words in ("Beware", "The first 1 of 3;", "2 times", "train, kept", "apdist train"):
        assert words in text
    assert "an empty list" not in shown.words
    assert text.count("data:image/") == 2
    links = [link["href"] for link in shown.attributes("a")]
    assert links == ["#s1"]
    assert [s["id"] for s in shown.attributes("section") if "id" in s] == ["s1"]
    assert not [v for _, each in shown.tags for v in each.values() if v and v.startswith("http")]


def test_every_text_is_escaped() -> None:
    text, _ = render_audit(page(HOSTILE))
    shown = Page(text)
    assert len(shown.attributes("script")) == 1
    assert text.count("<script") == 1


def test_pictures_shrink_to_the_limit_and_it_is_said() -> None:
    small = replace(page(), max_bytes=100)
    text, notes = render_audit(small)
    assert notes
    assert "data:image/" not in text
