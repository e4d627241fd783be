"""iNaturalist 2018 for retrieval: the lists of Smooth-AP, a path below ROOT in each line.

Brown et al., ECCV 2020, arXiv:2007.12163: species of the train list are not in the test list.
"""

from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place, cells


def read(place: Place) -> Listing:
    """Both lists; the class is the folder of the species' number."""
    entries = []
    for split in ("train", "test"):
        path = place.file(f"Inaturalist_{split}_set1.txt")
        for number, (image,) in cells(path, "train_val2018/<kind>/<species>/<image>"):
            parts = image.split("/")
            if len(parts) != 4:
                raise ValueError(
                    f"{path} line {number}: expected train_val2018/<kind>/<species>/<image>, got "
                    f"{image[:60]!r}; the file is damaged or cut: download it again"
                )
            entries.append(Entry(image, parts[2], f"{parts[1]} {parts[2]}", split))
    return Listing(entries)
