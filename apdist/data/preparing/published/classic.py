"""Oxford5k and Paris6k of 2007 and 2008: ``*_query.txt``, and good, ok and junk beside each.

Philbin, Chum, Isard, Sivic, Zisserman, CVPR 2007 and 2008. The queries are parts of images of the
database, which are among their own positives.
"""

from pathlib import Path

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.preparing.published.listing import Listing, unlabelled
from apdist.data.preparing.published.place import Place, cells

OXFORD = "oxc1_"
"""Begins the names of query images of Oxford, and of nothing else."""


def read(place: Place) -> Listing:
    """All pictures as the database; good and ok are positives."""
    queries = [_query(place, path) for path in place.files("*_query.txt")]
    return Listing([unlabelled(path, "database") for path in sorted(place.pictures)], {"": queries})


def _query(place: Place, path: Path) -> JudgedQuery:
    lines = list(cells(path, "image", "left", "top", "right", "bottom"))
    if len(lines) != 1:
        raise ValueError(f"{path} has {len(lines)} lines, expected one; download it again")
    ((_, (image, *edges)),) = lines
    good, ok, junk = (_images(place, path, kind) for kind in ("good", "ok", "junk"))
    if not good:
        raise ValueError(f"{path} has no good image in the file beside it; download both again")
    try:
        left, top, right, bottom = map(float, edges)
        return JudgedQuery(
            key=place.named(image.removeprefix(OXFORD)),
            box=(left, top, right, bottom),
            positives=good + ok,
            junk=junk,
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}; download it again") from None


def _images(place: Place, query: Path, kind: str) -> tuple[str, ...]:
    """The images in the file beside that of the query."""
    damaged = place.which.damaged
    path = query.with_name(query.name.replace("_query.txt", f"_{kind}.txt"))
    if not path.is_file():
        raise ValueError(f"{path} is missing beside {query.name}; download it again")
    images = [image for _, (image,) in cells(path, "image")]
    # Paris judges some of its damaged pictures, too; nobody can find these.
    return tuple(place.named(image) for image in images if f"{image}.jpg" not in damaged)
