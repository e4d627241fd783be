"""Stanford Online Products: ``Ebay_train.txt`` and ``Ebay_test.txt``, pictures by kind."""

from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place, cells, integer

COLUMNS = ("image_id", "class_id", "super_class_id", "path")


def read(place: Place) -> Listing:
    """The official split: no product is in both."""
    entries = []
    for split in ("train", "test"):
        path = place.file(f"Ebay_{split}.txt")
        for number, (_, label, _, image) in cells(path, *COLUMNS, skip=1):
            label = str(integer(path, number, "class_id", label))
            entries.append(Entry(image, label, label, split))
    return Listing(entries)
