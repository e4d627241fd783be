"""One self-contained HTML page about an audit: each kind of finding with its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from apdist.report.page import render
from apdist.report.pictures import Picture


@dataclass(frozen=True, kw_only=True)
class AuditedPicture(Picture):
    """A picture of a finding."""

    split: str
    fate: str = ""
    """What becomes of it: kept, in exclude.txt."""


@dataclass(frozen=True, kw_only=True)
class ShownFinding:
    """A finding as the page shows it."""

    number: int
    """By which the page links to it."""
    asked: AuditedPicture
    words: tuple[str, ...]
    """What is wrong, in words."""
    lists: tuple[tuple[str, tuple[AuditedPicture, ...]], ...]
    """Other pictures, each list with its heading."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """All findings of a kind."""

    title: str
    intro: str
    """What it means and what to do."""
    count: int
    """How many there are, shown or not."""
    findings: tuple[ShownFinding, ...]


@dataclass(frozen=True, kw_only=True)
class AuditPage:
    """Everything that the page shows."""

    title: str
    summary: str
    notices: tuple[str, ...]
    sections: tuple[Section, ...]
    """The gravest first."""
    commands: tuple[tuple[str, str], ...]
    """What to do next, and how."""
    max_bytes: int
    """Of the page: its pictures are made to fit."""


def render_audit(page: AuditPage) -> tuple[str, tuple[str, ...]]:
    """The page as HTML, and in words what its limit of bytes took away."""
    return render("audit.html", list(_pictures(page)), [], page.max_bytes, audit=page)


def _pictures(page: AuditPage) -> Iterator[Picture]:
    """What is asked about first, then what stands beside it."""
    findings = [finding for section in page.sections for finding in section.findings]
    yield from (finding.asked for finding in findings)
    for finding in findings:
        yield from (each for _, pictures in finding.lists for each in pictures)
