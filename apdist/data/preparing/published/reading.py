"""Read a published data set: its lists, compared with what lies there and with the counts.

What differs is refused: a figure on a set with images lost or added is no published figure. A
subset is read where somebody says that it is one; then what is missing is left out and counted.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from apdist.data.ground_truth.ground_truth import JUDGEMENTS, JudgedQuery
from apdist.data.preparing.folder import StoredImage
from apdist.data.preparing.labels import number_labels
from apdist.data.preparing.published import (
    cars,
    classic,
    cub,
    holidays,
    inaturalist,
    inshop,
    landmarks,
    revisited,
    sop,
)
from apdist.data.preparing.published.description import Layout, PublishedSet
from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place
from apdist.data.preparing.shards import Item
from apdist.data.preparing.tally import Tally
from apdist.data.storage.inside import refuse_outside

LAYOUTS: dict[Layout, Callable[[Place], Listing]] = {
    "cars": cars.read,
    "classic": classic.read,
    "cub": cub.read,
    "distractors": revisited.read_distractors,
    "holidays": holidays.read,
    "inaturalist": inaturalist.read,
    "inshop": inshop.read,
    "landmarks_retrieval": landmarks.read_retrieval,
    "landmarks_train": landmarks.read_train,
    "revisited": revisited.read,
    "sop": sop.read,
}
SUBSET = "--subset takes what is there"
SHOWN = 3
"""Names that a refusal gives."""


@dataclass(frozen=True)
class Found:
    """A set that is there."""

    items: list[Item]
    judged: dict[str, list[JudgedQuery]]
    """Queries of each ground truth, images named by the sources of items."""
    tally: Tally


def read_published(
    which: PublishedSet, root: Path, *, is_subset: bool = False, max_side: int = 0
) -> Found:
    """Images and judged queries of the set ``which`` in the folder ``root``.

    Raises:
        ValueError: a list is missing or damaged, or, if it is no subset, images or counts differ
            from those published.
    """
    place = Place(which, root)
    listing = LAYOUTS[which.layout](place)
    _refuse_repeated(which, listing.entries)
    for entry in listing.entries:
        refuse_outside(entry.path, f"a list of {which.name}")
    if not is_subset:
        _compare_counts(which, listing)
        _compare_judged(which, listing)
    entries = _present(place, listing.entries, is_subset)
    numbers = number_labels(entry.label for entry in entries)
    items = [
        Item(
            entry.path,
            numbers[entry.label],
            entry.name,
            entry.split,
            StoredImage(f"{root}/{entry.path}", max_side),
        )
        for entry in entries
    ]
    if not items:
        raise ValueError(f"{root} holds no picture that the lists of {which.name} name")
    return Found(items, listing.judged, place.tally)


def _refuse_repeated(which: PublishedSet, entries: list[Entry]) -> None:
    """An image in two splits would be trained on and tested with."""
    counts = Counter(entry.path for entry in entries)
    if repeated := [path for path, count in counts.items() if count > 1]:
        raise ValueError(
            f"the lists of {which.name} name {_some(repeated, 'image')} more than once; "
            "download them again"
        )


def _compare_counts(which: PublishedSet, listing: Listing) -> None:
    """Images and classes of each split against those published."""
    images = Counter(entry.split for entry in listing.entries)
    labels = Counter(split for split, _ in {(e.split, e.label) for e in listing.entries})
    due = which.counts.items()
    found = [(f"{split} images", images[split], count.images) for split, count in due]
    found += [
        (f"{split} classes", labels[split], count.classes) for split, count in due if count.classes
    ]
    if which.num_queries:
        queries = sum(map(len, listing.judged.values()))
        found.append(("judged queries", queries, which.num_queries))
    if wrong := [f"{got:,} {what}, not {right:,}" for what, got, right in found if got != right]:
        raise ValueError(
            f"{which.name} has other counts than the published ones: {'; '.join(wrong)}; its files "
            f"are cut, changed or of another version: download from {which.address}, or {SUBSET}"
        )


def _compare_judged(which: PublishedSet, listing: Listing) -> None:
    """Images that are judged have to be in the set."""
    there = {entry.path for entry in listing.entries}
    for queries in listing.judged.values():
        for query in queries:
            if unknown := [path for path in (query.key, *query.judged()) if path not in there]:
                raise ValueError(
                    f"the ground truth of {which.name} judges {_some(unknown, 'image')} that is "
                    f"not in the set; download both from {which.address}, or {SUBSET}"
                )


def _present(place: Place, entries: list[Entry], is_subset: bool) -> list[Entry]:
    """The entries whose picture is there."""
    which = place.which
    missing = [entry.path for entry in entries if entry.path not in place.pictures]
    listed = {entry.path for entry in entries}
    others = [path for path in place.pictures if path not in listed]
    if not is_subset:
        _refuse_differing(place, missing, [] if which.may_hold_others else others)
    _count(place.tally, "picture that no list names: left out", others)
    _count(place.tally, "image of a list that is not there: left out", missing)
    lost = set(missing)
    return [entry for entry in entries if entry.path not in lost]


def _refuse_differing(place: Place, missing: list[str], others: list[str]) -> None:
    lacks = f"lacks {_some(missing, 'image')}" if missing else ""
    holds = f"holds {_some(others, 'picture')} that {place.which.name} does not have"
    if others:
        way = "move those away" if not missing else "see that it is this set"
        differing = " and ".join(part for part in (lacks, holds) if part)
        raise ValueError(f"{place.root} {differing}; {way}, or {SUBSET}")
    if missing:
        raise ValueError(
            f"{place.root} {lacks} of {place.which.name}; unpack all archives of "
            f"{place.which.address} there, or {SUBSET}"
        )


def _count(tally: Tally, kind: str, paths: list[str]) -> None:
    if paths:
        tally.add(kind, min(paths), len(paths))


def _some(paths: list[str], what: str) -> str:
    """How many, and the first names."""
    names = ", ".join(sorted(paths)[:SHOWN])
    more = ", ..." if len(paths) > SHOWN else ""
    return f"{len(paths):,} {what}{'s' if len(paths) > 1 else ''} ({names}{more})"


def keyed(
    judged: Iterable[JudgedQuery], keys: dict[str, str]
) -> tuple[tuple[JudgedQuery, ...], int]:
    """The queries with the ``keys`` of the catalogue by source, and how many names they lost.

    Queries and judged images without a key, those of a subset that is not there, are left out.
    """
    lost = 0
    queries = []
    for query in judged:
        if query.key not in keys:
            lost += 1
            continue
        lost += sum(image not in keys for image in query.judged())
        positives, easy, hard, junk = (
            tuple(keys[image] for image in getattr(query, name) if image in keys)
            for name in JUDGEMENTS
        )
        key = keys[query.key]
        queries.append(
            replace(query, key=key, positives=positives, easy=easy, hard=hard, junk=junk)
        )
    return tuple(queries), lost
