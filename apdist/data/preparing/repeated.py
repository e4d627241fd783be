"""Images whose bytes come again: links, copies, one picture under two labels."""

import numpy as np
import pyarrow as pa

from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.preparing.tally import Tally

SAME_CLASS = "same bytes as another image of its class"
OTHER_CLASS = "same bytes as an image of another class"
OTHER_SPLIT = "same bytes as an image of another split"


def repeated(catalogue: Catalogue) -> Tally:
    """Images that have the checksum and the size of one before them, by where that one is."""
    sizes = catalogue.column("size").to_numpy().astype(np.uint64)
    contents = (sizes << np.uint64(32)) | catalogue.column("crc32").to_numpy()  # (n,)
    order = np.argsort(contents, kind="stable")
    is_again = contents[order][1:] == contents[order][:-1]
    later = np.flatnonzero(is_again) + 1  # places in ``order``
    starts = np.maximum.accumulate(np.where(np.append(False, is_again), 0, np.arange(len(order))))
    first, second = order[starts[later]], order[later]  # (m,) rows
    splits, _ = codes_and_names(catalogue.column("split"))
    is_other_class = catalogue.labels[first] != catalogue.labels[second]
    is_other_split = ~is_other_class & (splits[first] != splits[second])
    tally = Tally()
    for kind, chosen in (
        (OTHER_CLASS, is_other_class),
        (OTHER_SPLIT, is_other_split),
        (SAME_CLASS, ~is_other_class & ~is_other_split),
    ):
        if chosen.any():
            pair = pa.array([first[chosen][0], second[chosen][0]])
            names = catalogue.column("source").take(pair).to_pylist()
            tally.add(kind, " = ".join(names), int(chosen.sum()))
    return tally
