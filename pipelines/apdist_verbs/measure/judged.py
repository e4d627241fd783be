"""Queries of a ground truth against the images of a split, and distractors.

Shapes: q queries, d descriptor size.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from apdist.arrays import Array
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, codes_and_names, read_catalogue
from apdist.data.ground_truth.ground_truth import JUDGEMENTS, GroundTruth, JudgedQuery
from apdist.retrieval.protocols.distractors import DescriptorTables, open_tables
from apdist.retrieval.protocols.judging import refuse_missing, rows_of_keys
from apdist.retrieval.protocols.searching import score_judged
from apdist_verbs.described import split_of
from apdist_verbs.extract import CONTENTS
from apdist_verbs.measure.results import Measured, judged_lines
from apdist_verbs.terminal.console import counted
from apdist_verbs.terminal.progress import phase, progress_bar

if TYPE_CHECKING:
    from apdist.data.images import Box
    from apdist_verbs.measure.source import Source

LEAST_INSIDE = 0.9
"""Share of a box that lies in its image; less means that boxes and images are of two sizes."""


def measure_judged(
    source: Source,
    ground_truth: GroundTruth,
    *,
    query_split: str,
    gallery_split: str,
    distractors: str,
) -> Measured:
    """Score the queries of ``ground_truth``, cut at their boxes, against a split of ``shards``.

    Raises:
        ValueError: the ground truth names images that are not there, boxes do not fit their images,
            or the distractors are of another model.
    """
    with phase("reading the catalogue"):
        catalogue = read_catalogue(source.shards)
        ground_truth = by_keys(ground_truth, catalogue)
        rows = query_rows(ground_truth, catalogue, (query_split, gallery_split))
        check_boxes(ground_truth, catalogue, rows)
        gallery = split_of(source.run.config, source.shards, gallery_split)
        keys = gallery.column("key").to_pylist()
        rows_of_keys(ground_truth, keys)  # refuses before anything is described
        uri = distractors and storage.absolute(distractors)
        refuse_own_images(uri, catalogue)
        source.expansion.refuse_too_many(len(keys), 1 if uri else 0)
    views: list[tuple[int, Box | None]] = [
        (row, query.box) for row, query in zip(rows, ground_truth.queries, strict=True)
    ]
    queries = source.views(catalogue, "queries", views)
    tables = None
    if uri:
        tables = open_tables(uri, width=queries.shape[1], model_id=source.model.model_id)
    database = source.split(gallery_split).descriptors
    if source.expansion.is_any:
        with phase("finding neighbours"):
            more = tables.parts if tables else None
            queries, database = source.expansion.applied(queries, database, more)
    num_more = tables.num_rows if tables else 0
    with progress_bar("ranking", num_more) if num_more else phase("ranking") as update:
        parts = score_judged(
            queries,
            database,
            keys,
            ground_truth,
            distractors=_told(tables, update) if tables else (),
        )
    cropped = sum(query.box is not None for query in ground_truth.queries)
    return Measured(
        protocol=ground_truth.protocol,
        title=f"{source.run.name}: {counted(len(rows), 'query', 'queries')} against "
        f"{len(keys) + num_more:,} images",
        lines=judged_lines(parts),
        num_queries=len(rows),
        num_queries_without_positive={s.part: s.num_queries_without_positive for s in parts},
        facts={
            **source.facts(),
            "gallery_split": gallery_split,
            "num_cropped_queries": cropped,
            "num_images": len(keys),
            "num_distractors": num_more,
        },
        notes=list(_notes(cropped, len(rows), num_more)),
    )


def refuse_own_images(distractors: str, catalogue: Catalogue) -> None:
    """Return where the tables in the folder ``distractors`` are of other images than these.

    Raises:
        ValueError: they are of these, so that right answers would count as wrong.
    """
    uri = storage.join(distractors, CONTENTS)
    if not distractors or not storage.exists(uri):
        return
    try:
        data = json.loads(storage.read_bytes(uri))["data"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{uri} is damaged; extract again into another folder") from error
    if data == catalogue.fingerprint():
        raise ValueError(
            f"--distractors {distractors} has the descriptors of these very images, of which some "
            "are right; give those of other images"
        )


def _notes(cropped: int, num_queries: int, num_more: int) -> Iterator[str]:
    if cropped:
        yield f"{cropped} of {num_queries} queries were cut at their boxes before they were resized"
    if num_more:
        yield f"{num_more:,} of the images are distractors"


def _told(tables: DescriptorTables, update: object) -> Iterator[Array]:
    """The parts of the tables; says how many rows are done."""
    done = 0
    for part in tables.parts():
        yield part
        done += len(part)
        assert callable(update)
        update(done)


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


def check_boxes(ground_truth: GroundTruth, catalogue: Catalogue, rows: Sequence[int]) -> None:
    """Refuse boxes of images of another size, as after they were made smaller.

    Raises:
        ValueError: a tenth or more of a box lies outside of its image; the first one.
    """
    sizes: Iterable[tuple[int, int]] = zip(
        *(catalogue.column(name).take(list(rows)).to_pylist() for name in ("width", "height")),
        strict=True,
    )
    for query, (width, height) in zip(ground_truth.queries, sizes, strict=True):
        if query.box is None:
            continue
        left, top, right, bottom = query.box
        across = max(0.0, min(right, width) - max(left, 0))
        down = max(0.0, min(bottom, height) - max(top, 0))
        if across * down < LEAST_INSIDE * (right - left) * (bottom - top):
            raise ValueError(
                f"the box {query.box} of query {query.key!r} reaches out of its image of {width} x "
                f"{height} pixels; boxes are in pixels of the image as it is in the shards: "
                "prepare the images in their own size"
            )
