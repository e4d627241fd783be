"""The four files of an audit: the page, JSON, CSV and the list of exclusions."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from apdist.audit.exclusions import Exclusions
from apdist.audit.findings import Findings, as_csv, as_json, rows_of
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue
from apdist.report.audited import render_audit
from apdist_verbs.auditing.page import Shown, compose_audit
from apdist_verbs.auditing.subject import Audited
from apdist_verbs.terminal.console import counted
from apdist_verbs.terminal.next_step import near

if TYPE_CHECKING:
    from apdist_verbs.audit import Options


def write(
    audited: Audited, findings: Findings, excluded: Exclusions, options: Options
) -> tuple[str, ...]:
    """Write the four files; returns in words what the page's limit took away."""
    catalogue, out = audited.catalogue, audited.out
    lines = rows_of(findings, catalogue, excluded.rows)
    about: dict[str, Any] = {
        "data": storage.shown(catalogue.root),
        "images": len(catalogue),
        "compared_by": audited.by,
        "excluded_kinds": list(options.exclude),
        "excluded": len(excluded.rows),
    }
    place = storage.join(out, "exclude.txt")
    num_listed = counted(len(excluded.rows), "training image")
    command = shlex.join(["apdist", *audited.train_words(near(place))])
    shown = Shown(
        title=f"Audit of {near(options.uri)}",
        summary=f"{counted(len(catalogue), 'image')} in "
        f"{counted(len(catalogue.splits()), 'split')}, compared by {audited.by}; {num_listed} in "
        "exclude.txt",
        notices=(*audited.notices, *excluded.notes, *damage(findings, catalogue)),
        commands=(("Train without them", command),) if excluded.rows else (),
        most=options.most_shown,
        max_bytes=int(options.max_mb * 1e6),
    )
    page, notes = render_audit(compose_audit(findings, catalogue, excluded.rows, shown))
    # The largest first: where a disk is full, nothing of it is left.
    storage.write_bytes(storage.join(out, "audit.html"), page.encode())
    storage.write_bytes(storage.join(out, "audit.json"), as_json(findings, lines, about))
    storage.write_bytes(storage.join(out, "audit.csv"), as_csv(lines))
    storage.write_bytes(place, excluded.text.encode())
    return notes


def damage(findings: Findings, catalogue: Catalogue, most: int = 5) -> list[str]:
    """Images that cannot be used, in words."""
    sources = catalogue.column("source")
    told = [f"{sources[row].as_py()} {why}" for row, why in list(findings.damaged.items())[:most]]
    left = len(findings.damaged) - len(told)
    return [*told, *([f"and {left} images more that cannot be used: audit.csv"] if left else [])]
