"""The queries of a ground truth as images of a catalogue, cut at their boxes.

Shapes: q queries, n database images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apdist.data.catalogue.catalogue import Catalogue, codes_and_names
from apdist.data.ground_truth.ground_truth import JUDGEMENTS, GroundTruth, JudgedQuery
from apdist.data.images import Box
from apdist.retrieval.protocols.judging import refuse_missing, rows_of_keys
from apdist.retrieval.protocols.scores import refuse_unanswerable

LEAST_INSIDE = 0.9
"""Share of a box that lies in its image; less means that boxes and images are of two sizes."""


def views_of_queries(
    ground_truth: GroundTruth, catalogue: Catalogue, database: Sequence[str], splits: Sequence[str]
) -> tuple[GroundTruth, list[tuple[int, Box | None]]]:
    """``ground_truth`` by keys, and for each query the row of its image and what is cut out of it.

    All that can be refused before an image is described is refused here.

    Args:
        ground_truth: may name images by their source, as persons do.
        catalogue: has the queries.
        database: (n,) keys of the images that are searched.
        splits: of the catalogue, where queries are looked for first.

    Raises:
        ValueError: it names images that are not there, boxes do not fit their images, or no query
            has a positive.
    """
    ground_truth = by_keys(ground_truth, catalogue)
    rows = query_rows(ground_truth, catalogue, splits)
    misfit, remedy = first_misfit(ground_truth, catalogue, rows)
    if misfit:
        raise ValueError(f"{misfit}; {remedy}")
    refuse_unanswerable(ground_truth, rows_of_keys(ground_truth, database))
    boxes = [query.box for query in ground_truth.queries]
    return ground_truth, list(zip(rows, boxes, strict=True))


def by_keys(ground_truth: GroundTruth, catalogue: Catalogue) -> GroundTruth:
    """``ground_truth`` with the keys of images that it names as their source, as persons do."""
    names = {name for query in ground_truth.queries for name in (query.key, *query.judged())}
    keys = catalogue.column("key")
    known = pc.filter(keys, pc.is_in(keys, pa.array(names, pa.string()))).to_pylist()
    sources = catalogue.column("source")
    rows = np.flatnonzero(pc.is_in(sources, pa.array(names - {*known}, pa.string())).to_numpy())
    pairs = zip(sources.take(rows).to_pylist(), keys.take(rows).to_pylist(), strict=True)
    found = dict(pairs)
    if len(found) < len(rows):
        return ground_truth  # one name for several images is none
    return dataclasses.replace(
        ground_truth, queries=tuple(_renamed(query, found) for query in ground_truth.queries)
    )


def _renamed(query: JudgedQuery, keys: Mapping[str, str]) -> JudgedQuery:
    lists = {name: tuple(keys.get(n, n) for n in getattr(query, name)) for name in JUDGEMENTS}
    return dataclasses.replace(query, key=keys.get(query.key, query.key), **lists)


def query_rows(ground_truth: GroundTruth, catalogue: Catalogue, splits: Sequence[str]) -> list[int]:
    """Row of each query's image, first of all in these ``splits``, then in any.

    Raises:
        ValueError: there is none, or several images have its key.
    """
    wanted = list(dict.fromkeys(query.key for query in ground_truth.queries))
    column = catalogue.column("key")
    found = np.flatnonzero(pc.is_in(column, pa.array(wanted, pa.string())).to_numpy())
    codes, names = codes_and_names(catalogue.column("split"))
    order = {name: place for place, name in enumerate(splits)}
    best: dict[str, list[tuple[int, int]]] = {}
    for row, key in zip(found.tolist(), column.take(found).to_pylist(), strict=True):
        place = order.get(names[codes[row]], len(order))
        best.setdefault(key, []).append((place, row))
    some = dict.fromkeys(best, 0) or _some(column)
    refuse_missing(wanted, some, "asks with", "the shards")
    rows = {}
    for key, places in best.items():
        first = min(places)
        if sum(place == first[0] for place, _ in places) > 1:
            raise ValueError(
                f"several images have the key {key!r} of a query; give images keys of their own: "
                "prepare them again"
            )
        rows[key] = first[1]
    return [rows[query.key] for query in ground_truth.queries]


def _some(column: pa.ChunkedArray) -> dict[str, int]:
    return dict.fromkeys(column.to_pylist(), 0)


def part_inside(box: Box, width: int, height: int) -> tuple[float, float]:
    """Width and height of what of a box lies in an image, pixels."""
    left, top, right, bottom = box
    return (
        max(0.0, min(right, width) - max(left, 0)),
        max(0.0, min(bottom, height) - max(top, 0)),
    )


def reaches_out(box: Box, width: int, height: int) -> bool:
    """Whether less than `LEAST_INSIDE` of a box lies in an image of so many pixels."""
    left, top, right, bottom = box
    across, down = part_inside(box, width, height)
    return across * down < LEAST_INSIDE * (right - left) * (bottom - top)


def first_misfit(
    ground_truth: GroundTruth, catalogue: Catalogue, rows: Sequence[int]
) -> tuple[str, str]:
    """What is wrong with the first box that does not fit its image, and what may help; or nothing.

    A box does not fit that holds no pixel, or of which a tenth or more lies outside.

    Args:
        ground_truth: of q queries.
        catalogue: has their images.
        rows: (q,) where.
    """
    sizes: Iterable[tuple[int, int]] = zip(
        *(catalogue.column(name).take(list(rows)).to_pylist() for name in ("width", "height")),
        strict=True,
    )
    for query, (width, height) in zip(ground_truth.queries, sizes, strict=True):
        if query.box is None:
            continue
        across, down = part_inside(query.box, width, height)
        box = f"the box {query.box} of query {query.key!r}"
        if across < 1 or down < 1:
            return (
                f"{box} holds no pixel of its image of {width} x {height}",
                "a box is left, top, right, bottom in pixels: correct it",
            )
        if reaches_out(query.box, width, height):  # as of images that were made smaller
            return (
                f"{box} reaches out of its image of {width} x {height} pixels",
                "boxes are in pixels of the image as it is in the shards: prepare the images in "
                "their own size",
            )
    return "", ""
