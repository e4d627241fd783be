"""The images that an audit speaks against, as the list that `data.exclude` takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from apdist.audit.findings import Findings
    from apdist.data.catalogue.catalogue import Catalogue

Excluded = Literal["leaks", "duplicates", "damaged", "labels", "outliers"]
"""Kinds of findings that a list of exclusions can be made of."""
SAFE: tuple[Excluded, ...] = ("leaks", "duplicates", "damaged")
"""Those of which nothing that was measured is worth keeping."""


@dataclass(frozen=True)
class Exclusions:
    """Images that are better not trained on."""

    rows: frozenset[int]
    text: str
    """A file for `data.exclude`."""
    notes: tuple[str, ...]
    """What it cannot say, in words."""


def exclusions(
    findings: Findings, catalogue: Catalogue, train_split: str, kinds: Sequence[Excluded]
) -> Exclusions:
    """The list of training images that findings of some ``kinds`` speak against.

    Of duplicates one is kept; of leaks every training image goes, what is measured stays.
    """
    splits, keys = catalogue.column("split").to_pylist(), catalogue.column("key").to_pylist()
    is_training = [split == train_split for split in splits]
    times = Counter(key for key, is_in in zip(keys, is_training, strict=True) if is_in)
    reasons: dict[int, str] = {}
    for row, reason in _reasons(findings, kinds, is_training):
        reasons.setdefault(row, reason)
    sayable = {row for row in reasons if times[keys[row]] == 1 and _is_entry(keys[row])}
    lines = [
        f"# {len(sayable)} images of the split {train_split!r} for data.exclude, by apdist audit: "
        + ", ".join(kinds)
    ]
    for reason in dict.fromkeys(reasons.values()):
        rows = [row for row in sorted(sayable) if reasons[row] == reason]
        lines += [f"# {reason}: {len(rows)}", *(keys[row] for row in rows)] if rows else []
    notes = []
    if lost := sorted(set(reasons) - sayable):
        notes.append(
            f"{len(lost)} images cannot be named in a list, as their keys are of several images "
            f"or no plain line of text, the first {keys[lost[0]]!r}; prepare the shards again to "
            "leave them out"
        )
    return Exclusions(frozenset(sayable), "\n".join(lines) + "\n", tuple(notes))


def _is_entry(key: str) -> bool:
    return key == key.strip() and len(key.splitlines()) == 1 and not key.startswith(("#", "class:"))


def _reasons(
    findings: Findings, kinds: Sequence[Excluded], is_training: Sequence[bool]
) -> Iterator[tuple[int, str]]:
    """Rows of training images, and why each should go."""
    if "damaged" in kinds:
        yield from ((row, "damaged") for row in findings.damaged if is_training[row])
    if "leaks" in kinds:
        for group in findings.leaks:
            yield from (
                (row, "a copy is in another split") for row in group.rows if is_training[row]
            )
    if "duplicates" in kinds:
        for group in findings.repeats:
            if is_training[group.rows[0]]:
                yield from ((row, "a copy is kept") for row in group.rows[1:])
    if "labels" in kinds:
        yield from (
            (found.row, "suspicious label") for found in findings.labels if is_training[found.row]
        )
    if "outliers" in kinds:
        yield from ((found.row, "outlier") for found in findings.outliers if is_training[found.row])
