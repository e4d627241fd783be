"""Cars-196: ``cars_annos.mat`` with all 16,185 images in ``car_ims``.

Retrieval trains on the first 98 classes and tests on the others (Song et al., CVPR 2016,
arXiv:1511.06452); the field ``test`` is of classification and not used.
"""

from typing import Any

from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.matlab import read_matlab
from apdist.data.preparing.published.place import Place
from apdist.data.text import printable

LAST_TRAINED = 98


def read(place: Place) -> Listing:
    """Images of the first 98 classes as train, all others as test."""
    path = place.file("cars_annos.mat")
    content = read_matlab(path)
    if not {"annotations", "class_names"} <= content.keys():
        raise ValueError(
            f"{path} is not the file of Cars-196: expected annotations and class_names, found "
            f"{printable(', '.join(content))[:100] or 'nothing'}; download it again"
        )
    names = content["class_names"]
    entries = [
        _entry(f"{path} image {number}", annotation, names)
        for number, annotation in enumerate(content["annotations"], 1)
    ]
    return Listing(entries)


def _entry(where: str, annotation: Any, names: Any) -> Entry:
    try:
        image, (label,) = annotation["relative_im_path"], annotation["class"]
        name = names[label - 1] if 1 <= label <= len(names) else None
    except (KeyError, TypeError, ValueError):
        image = name = None
    if not isinstance(image, str) or not isinstance(name, str):
        raise ValueError(
            f"{where}: expected relative_im_path, a text, and class, a number of class_names; "
            "download it again"
        )
    return Entry(image, str(label), name, "train" if label <= LAST_TRAINED else "test")
