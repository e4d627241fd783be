"""CUB-200-2011: ``images.txt``, ``image_class_labels.txt`` and ``classes.txt`` number each other.

Retrieval trains on the first 100 classes and tests on the others (Song et al., CVPR 2016,
arXiv:1511.06452); ``train_test_split.txt`` is of classification and not used.
"""

from pathlib import Path

from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place, cells, integer

LAST_TRAINED = 100


def read(place: Place) -> Listing:
    """Images of the first 100 classes as train, all others as test."""
    images = _numbered(place.file("images.txt"), "path")
    file = place.file("image_class_labels.txt")
    labels = _numbered(file, "class_id")
    names = _numbered(place.file("classes.txt"), "name")
    if differing := sorted(images.keys() ^ labels.keys()):
        raise ValueError(
            f"{file} labels other images than images.txt lists, the first number {differing[0]}; "
            "download both again"
        )
    entries = []
    for number, path in images.items():
        label = integer(file, number, "class_id", labels[number])
        if label not in names:
            raise ValueError(f"{file} has class {label}, which classes.txt does not name")
        split = "train" if label <= LAST_TRAINED else "test"
        entries.append(Entry(f"images/{path}", str(label), names[label], split))
    return Listing(entries)


def _numbered(path: Path, column: str) -> dict[int, str]:
    """What stands behind each number."""
    found: dict[int, str] = {}
    for line, (number, text) in cells(path, "number", column):
        key = integer(path, line, "number", number)
        if found.setdefault(key, text) != text:
            raise ValueError(f"{path} line {line}: number {key} comes twice; download it again")
    return found
