"""Cars-196: ``cars_annos.mat`` with all 16,185 images in ``car_ims``.

Retrieval trains on the first 98 classes and tests on the others (Song et al., CVPR 2016,
arXiv:1511.06452); the field ``test`` is of classification and not used.
"""

from pathlib import Path
from typing import Any

from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place

LAST_TRAINED = 98
FIELDS = ("relative_im_path", "class")


def read(place: Place) -> Listing:
    """Images of the first 98 classes as train, all others as test."""
    path = place.file("cars_annos.mat")
    annotations, names = _variables(path)
    entries = []
    for number, (image, label) in enumerate(annotations, 1):
        if not isinstance(image, str) or not 1 <= int(label) <= len(names):
            raise ValueError(
                f"{path} image {number}: expected a path and a class from 1 to {len(names)}, got "
                f"{str(image)[:60]!r} and {label}; download it again"
            )
        split = "train" if label <= LAST_TRAINED else "test"
        entries.append(Entry(image, str(int(label)), str(names[int(label) - 1]), split))
    return Listing(entries)


def _variables(path: Path) -> tuple[list[Any], list[Any]]:
    """Path and class of each image, and the names of the classes."""
    from scipy.io import loadmat

    try:
        content = loadmat(
            path, squeeze_me=True, variable_names=["annotations", "class_names"], appendmat=False
        )
        annotations = content["annotations"].reshape(-1)
        columns = [annotations[name].tolist() for name in FIELDS]
        return list(zip(*columns, strict=True)), content["class_names"].reshape(-1).tolist()
    # A damaged file fails with whatever its last readable part ran into.
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:120] or type(error).__name__
        raise ValueError(
            f"{path} is not the file of Cars-196, with annotations ({', '.join(FIELDS)}) and "
            f"class_names ({reason}); download it again"
        ) from error
