"""What an audit found, as JSON and as CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from apdist.audit.duplicates import NEAR, Duplicates
from apdist.audit.labels import SUSPICIOUS, OneClass, Suspicion
from apdist.audit.outliers import Outlier
from apdist.data.catalogue.catalogue import Catalogue

COLUMNS = (
    *("kind", "group", "role", "key", "source", "split", "label_name", "score"),
    *("suggested_label_name", "excluded", "shard", "row"),
)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that an audit found."""

    duplicates: list[Duplicates]
    """Leaks first."""
    labels: list[Suspicion]
    one_classes: list[OneClass]
    outliers: list[Outlier]
    damaged: dict[int, str]
    """Rows of images that cannot be used, and why."""
    has_descriptors: bool
    """Whether labels, classes and outliers were looked at."""

    @property
    def leaks(self) -> list[Duplicates]:
        """Duplicates in several splits."""
        return [group for group in self.duplicates if group.is_leak]

    @property
    def repeats(self) -> list[Duplicates]:
        """Duplicates within a split."""
        return [group for group in self.duplicates if not group.is_leak]


def rows_of(
    findings: Findings, catalogue: Catalogue, excluded: frozenset[int]
) -> list[dict[str, Any]]:
    """A row of `COLUMNS` for every image of every finding."""
    wanted = {
        name: catalogue.column(name) for name in ("key", "source", "split", "shard", "label_name")
    }
    names = class_names(catalogue)

    def line(
        kind: str, group: int, role: str, row: int, score: float, label: int = -1
    ) -> dict[str, Any]:
        about = {name: str(column[row].as_py()) for name, column in wanted.items()}
        return {
            "kind": kind,
            "group": group,
            "role": role,
            "score": round(score, 4),
            "suggested_label_name": names.get(label, ""),
            "excluded": row in excluded,
            "row": row,
            **about,
        }

    lines: list[dict[str, Any]] = []
    for number, group in enumerate(findings.duplicates):
        kind = "leak" if group.is_leak else "duplicate"
        for place, row in enumerate(group.rows):
            role = f"{group.how}{'' if place else ', first'}"
            lines.append(line(kind, number, role, row, group.score))
    for number, found in enumerate(findings.labels):
        lines.append(line("label", number, "doubted", found.row, found.confidence, found.suggested))
    for number, pair in enumerate(findings.one_classes):
        for first, second in pair.examples[:1]:
            lines.append(line("classes", number, "first", first, pair.mixing, pair.second))
            lines.append(line("classes", number, "second", second, pair.mixing, pair.first))
    for number, far in enumerate(findings.outliers):
        lines.append(line("outlier", number, "far", far.row, far.similarity))
    for number, (row, why) in enumerate(findings.damaged.items()):
        lines.append(line("damaged", number, why, row, 0.0))
    return [{name: each[name] for name in COLUMNS} for each in lines]


def class_names(catalogue: Catalogue) -> dict[int, str]:
    """Name of each class."""
    names: dict[int, str] = {}
    for label, name in zip(
        catalogue.labels.tolist(), catalogue.column("label_name").to_pylist(), strict=True
    ):
        names.setdefault(label, str(name))
    return names


def as_csv(lines: Sequence[dict[str, Any]]) -> bytes:
    """A table with a header; undecodable bytes of a file's name become question marks."""
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return target.getvalue().encode("utf-8", "replace")


def as_json(findings: Findings, lines: Sequence[dict[str, Any]], about: dict[str, Any]) -> bytes:
    """Everything, with what it was found by."""
    found = {
        **about,
        "thresholds": {"copy": NEAR, "label": SUSPICIOUS},
        "counts": counts(findings),
        "findings": list(lines),
        "classes_that_are_one": [dataclasses.asdict(pair) for pair in findings.one_classes],
    }
    return (json.dumps(found, indent=1) + "\n").encode()


def counts(findings: Findings) -> dict[str, int]:
    """How many findings there are of each kind."""
    return {
        "leaks": len(findings.leaks),
        "duplicates": len(findings.repeats),
        "labels": len(findings.labels),
        "classes_that_are_one": len(findings.one_classes),
        "outliers": len(findings.outliers),
        "damaged": len(findings.damaged),
    }
