"""Everything that the page of an audit shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np

from apdist.audit.duplicates import Duplicates
from apdist.audit.findings import Findings, class_names
from apdist.audit.labels import OneClass, Suspicion
from apdist.audit.outliers import Outlier
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.loading.reader import ImageReader
from apdist.report.audited import AuditedPicture, AuditPage, Section, ShownFinding
from apdist.report.pictures import LARGEST_SIDE, shrunk

MOST_BESIDE = 6
"""Pictures in a list."""
INTROS = {
    "Leaks": "The same picture in several splits: what is measured was trained on, so figures are "
    "too good. The training copies are in exclude.txt; nothing that is measured is left out.",
    "Duplicates": "The same picture several times in a split: it counts as often, and in an "
    "evaluation it is found at once. One is kept: the least doubtful label, then the largest.",
    "Suspicious labels": "The nearest other pictures are of another class. Look at each: correct "
    "the label where it is wrong, keep it where the picture is only unusual.",
    "Classes that are one": "Images of the two are each other's neighbours about as often as by "
    "chance: one thing under two names, or two that the network cannot tell apart.",
    "Outliers": "Pictures that are like no other, and not like their class: strays, wrong crops, "
    "or the only one of their kind.",
}
HOW = {
    "equal bytes": "equal bytes",
    "equal pixels": "equal pixels in different files",
    "copy": "encoded again, scaled or cropped",
}
_Found = TypeVar("_Found")


class AuditedImages:
    """The images of an audit, to be shown.

    Args:
        catalogue: all of them.
        excluded: rows in the list of exclusions.
    """

    def __init__(self, catalogue: Catalogue, excluded: frozenset[int]) -> None:
        self.catalogue, self.excluded = catalogue, excluded
        self.reader, self.names = ImageReader(catalogue), class_names(catalogue)
        self._seen: dict[int, AuditedPicture] = {}
        # Keys are unique in a shard alone, and the page knows pictures by them.
        self._times = Counter(catalogue.column("key").to_pylist())

    def __call__(self, row: int, fate: str = "") -> AuditedPicture:
        """The picture of a row, read once."""
        if row not in self._seen:
            about = {
                name: str(self.catalogue.column(name)[row].as_py())
                for name in ("source", "key", "split", "shard")
            }
            label = int(self.catalogue.labels[row])
            self._seen[row] = AuditedPicture(
                image=shrunk(self.reader.read_one(row), LARGEST_SIDE),
                name=about["source"],
                key=about["key"] + f" in {about['shard']}" * (self._times[about["key"]] > 1),
                label=self.names[label],
                label_id=label,
                split=about["split"],
                fate="in exclude.txt" if row in self.excluded else fate,
            )
        return self._seen[row]

    def several(self, rows: Iterable[int]) -> tuple[AuditedPicture, ...]:
        """The first few of ``rows``."""
        return tuple(self(row) for row in list(rows)[:MOST_BESIDE])

    def of_class(self, label: int, but: Sequence[int]) -> tuple[AuditedPicture, ...]:
        """Some images of a class."""
        rows = np.flatnonzero(self.catalogue.labels == label)
        return self.several(row for row in rows.tolist() if row not in but)[:3]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown of an audit, and how much."""

    title: str
    summary: str
    notices: tuple[str, ...]
    commands: tuple[tuple[str, str], ...]
    most: int
    """Findings of each kind."""
    max_bytes: int


def compose_audit(
    findings: Findings, catalogue: Catalogue, excluded: frozenset[int], shown: Shown
) -> AuditPage:
    """Everything the page shows."""
    images, numbers = AuditedImages(catalogue, excluded), count()

    def section(
        title: str, found: Sequence[_Found], show: Callable[[int, _Found], ShownFinding]
    ) -> Section:
        first = tuple(show(next(numbers), each) for each in found[: shown.most])
        return Section(title=title, intro=INTROS[title], count=len(found), findings=first)

    look = _Looking(images)
    sections = [
        section("Leaks", findings.leaks, look.duplicates),
        section("Duplicates", findings.repeats, look.duplicates),
    ]
    if findings.has_descriptors:
        sections += [
            section("Suspicious labels", findings.labels, look.label),
            section("Classes that are one", findings.one_classes, look.classes),
            section("Outliers", findings.outliers, look.outlier),
        ]
    return AuditPage(
        title=shown.title,
        summary=shown.summary,
        notices=shown.notices,
        sections=tuple(sections),
        commands=shown.commands,
        max_bytes=shown.max_bytes,
    )


class _Looking:
    """Findings of each kind as the page shows them."""

    def __init__(self, images: AuditedImages) -> None:
        self.images = images

    def duplicates(self, number: int, found: Duplicates) -> ShownFinding:
        """What is kept, and beside it the others."""
        images, names = self.images, self.images.names
        words = [f"{len(found.rows)} times: {HOW[found.how]}"]
        if found.how == "copy":
            words.append(f"correlation {found.score:.3f} or more")
        if len(found.labels) > 1:
            words.append("with different labels: " + ", ".join(names[i] for i in found.labels[:4]))
        first, *others = sorted(found.rows, key=lambda row: row in images.excluded)
        return ShownFinding(
            number=number,
            asked=images(first, "kept"),
            words=tuple(words),
            lists=(("The same picture", images.several(others)),),
        )

    def label(self, number: int, found: Suspicion) -> ShownFinding:
        """The image, its class, and the class of its neighbours."""
        images, names = self.images, self.images.names
        return ShownFinding(
            number=number,
            asked=images(found.row),
            words=(
                f"neighbours say {names[found.suggested]}, {found.confidence:.0%} of the votes for "
                "it and its label",
            ),
            lists=(
                ("Neighbours", images.several(found.witnesses)),
                ("Others with its label", images.of_class(found.label, [found.row])),
            ),
        )

    def classes(self, number: int, found: OneClass) -> ShownFinding:
        """Images of the one, and their neighbours of the other."""
        images, names = self.images, self.images.names
        firsts, seconds = zip(*found.examples, strict=True)
        return ShownFinding(
            number=number,
            asked=images(firsts[0]),
            words=(
                f"{names[found.first]} and {names[found.second]}",
                f"mixed {found.mixing:.2f} times as by chance",
            ),
            lists=(
                (names[found.first], images.several(firsts)),
                (names[found.second], images.several(seconds)),
            ),
        )

    def outlier(self, number: int, found: Outlier) -> ShownFinding:
        """The image, and what is nearest to it."""
        return ShownFinding(
            number=number,
            asked=self.images(found.row),
            words=(f"similarity {found.similarity:.2f} to its nearest, usual {found.usual:.2f}",),
            lists=(("Nearest", self.images.several([found.nearest])),),
        )
