"""Cars-196: ``cars_annos.mat`` with all 16,185 images in ``car_ims``.

Retrieval trains on the first 98 classes and tests on the others (Song et al., CVPR 2016,
arXiv:1511.06452); the field ``test`` is of classification and not used.
"""

from pathlib import Path

import numpy as np

from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place
from apdist.data.text import printable

LAST_TRAINED = 98
FIELDS = ("relative_im_path", "class")


def read(place: Place) -> Listing:
    """Images of the first 98 classes as train, all others as test."""
    path = place.file("cars_annos.mat")
    annotations, names = _variables(path)
    entries = []
    for number, (image, label) in enumerate(annotations, 1):
        if not 1 <= label <= len(names):
            raise ValueError(
                f"{path} image {number}: expected a class from 1 to {len(names)}, got {label}; "
                "download it again"
            )
        split = "train" if label <= LAST_TRAINED else "test"
        entries.append(Entry(image, str(label), names[label - 1], split))
    return Listing(entries)


def _variables(path: Path) -> tuple[list[tuple[str, int]], list[str]]:
    """Path and class of each image, and the names of the classes."""
    from scipy.io import loadmat

    try:
        content = loadmat(
            path, squeeze_me=True, variable_names=["annotations", "class_names"], appendmat=False
        )
        images, labels, names = (
            np.atleast_1d(array).tolist()
            for array in (
                *(content["annotations"][name] for name in FIELDS),
                content["class_names"],
            )
        )
        return list(zip(map(str, images), map(int, labels), strict=True)), list(map(str, names))
    # A damaged file fails with whatever its last readable part ran into.
    except Exception as error:
        reason = printable(str(error).strip()[:120]) or type(error).__name__
        raise ValueError(
            f"{path} is not the file of Cars-196, with annotations ({', '.join(FIELDS)}) and "
            f"class_names ({reason}); download it again"
        ) from error
