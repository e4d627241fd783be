"""Revisited Oxford and Paris: ``gnd_<name>.pkl`` with imlist, qimlist and gnd.

Radenovic, Iscen, Tolias, Avrithis, Chum, CVPR 2018, arXiv:1803.11285.
"""

from dataclasses import replace
from pathlib import PurePosixPath

from apdist.data.ground_truth.revisited_pickle import read_pickle
from apdist.data.preparing.published.listing import Listing, unlabelled
from apdist.data.preparing.published.place import Place, cells


def read(place: Place) -> Listing:
    """The database and the queries, which are no part of it; of each query its box."""
    (name,) = place.which.lists
    official = read_pickle(place.file(name))
    queries = [
        replace(
            query,
            key=place.named(query.key),
            easy=tuple(map(place.named, query.easy)),
            hard=tuple(map(place.named, query.hard)),
            junk=tuple(map(place.named, query.junk)),
        )
        for query in official.ground_truth.queries
    ]
    database = dict.fromkeys(map(place.named, official.database))
    apart = dict.fromkeys(query.key for query in queries if query.key not in database)
    entries = [unlabelled(image, "database") for image in database]
    return Listing(entries + [unlabelled(image, "query") for image in apart], {"": queries})


def read_distractors(place: Place) -> Listing:
    """The million of images that are right for no query; a path below ``jpg`` in each line."""
    (name,) = place.which.lists
    paths = [f"jpg/{image}" for _, (image,) in cells(place.file(name), "image")]
    paths = [path if PurePosixPath(path).suffix else f"{path}.jpg" for path in paths]
    return Listing([unlabelled(path, "distractors") for path in paths])
