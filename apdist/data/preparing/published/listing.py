"""What the files of a published data set say: images with labels and splits, judged queries."""

from dataclasses import dataclass, field

from apdist.data.ground_truth.ground_truth import JudgedQuery


@dataclass(frozen=True)
class Entry:
    """One image that a set names."""

    path: str
    """Below ROOT, with / between folders."""
    label: str
    name: str
    """Name of the class."""
    split: str


@dataclass(frozen=True)
class Listing:
    """All images and queries of a published set."""

    entries: list[Entry]
    judged: dict[str, list[JudgedQuery]] = field(default_factory=dict)
    """Queries of each ground truth, images named by their paths; the one whose figures are
    published has no name, others one."""


def unlabelled(path: str, split: str) -> Entry:
    """An image without a class: it is one by itself, so that nothing is taken for its positive."""
    return Entry(path, path, path, split)
