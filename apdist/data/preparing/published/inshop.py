"""DeepFashion In-Shop: ``list_eval_partition.txt`` with train, query and gallery."""

import re

from apdist.data.preparing.published.listing import Entry, Listing
from apdist.data.preparing.published.place import Place, cells, text_lines

COLUMNS = ("image_name", "item_id", "evaluation_status")
SPLITS = ("train", "query", "gallery")
ITEM = re.compile(r"id_\d+", re.ASCII)


def read(place: Place) -> Listing:
    """The official split; items of train are in neither query nor gallery."""
    path = place.file("list_eval_partition.txt")
    entries = []
    for number, (image, item, split) in cells(path, *COLUMNS, skip=2):
        if split not in SPLITS:
            raise ValueError(
                f"{path} line {number}: {COLUMNS[2]} {split[:60]!r} is none of "
                f"{', '.join(SPLITS)}; download it again"
            )
        if not ITEM.fullmatch(item):
            raise ValueError(
                f"{path} line {number}: {COLUMNS[1]} {item[:60]!r} is none like id_00000002; "
                "download it again"
            )
        # The list begins every path with img, which some unpack into a folder Img.
        entries.append(Entry(f"{place.folders[0]}{image.removeprefix('img')}", item, item, split))
    promised = next(iter(text_lines(path)), "").strip()
    if promised != str(len(entries)):
        raise ValueError(
            f"{path} promises {promised[:20] or 'nothing'} images in its first line and lists "
            f"{len(entries)}; it is damaged or cut: download it again"
        )
    return Listing(entries)
