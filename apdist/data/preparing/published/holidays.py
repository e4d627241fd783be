"""INRIA Holidays: the name of a file says it all, four digits of a group and two of a place in it.

Jegou, Douze, Schmid, ECCV 2008. The first of a group is searched for among all others.
"""

import re
from collections import defaultdict
from pathlib import PurePosixPath

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place

NAME = re.compile(r"(\d{4})(\d{2})", re.ASCII)


def read(place: Place) -> Listing:
    """All images as the database; the query's own is junk, as its protocol asks."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted(place.pictures):
        if match := NAME.fullmatch(PurePosixPath(path).stem):
            groups[match[1]].setdefault(match[2], path)
    entries = [
        Entry(path, group, group, "database")
        for group, members in groups.items()
        for path in members.values()
    ]
    queries = [
        JudgedQuery(
            key=members["00"],
            positives=tuple(path for number, path in members.items() if number != "00"),
            junk=(members["00"],),
        )
        for members in groups.values()
        if "00" in members
    ]
    return Listing(entries, {"": queries})
