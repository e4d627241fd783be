"""Queries of a ground truth against the images of a split, and distractors.

Shapes: q queries, d descriptor size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from apdist.arrays import Array
from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.ground_truth.ground_truth import GroundTruth
from apdist.retrieval.descriptor_tables import DescriptorTables, open_tables
from apdist.retrieval.protocols.judging import own_rows
from apdist.retrieval.protocols.queries import views_of_queries
from apdist.retrieval.protocols.searching import score_judged
from apdist_verbs.describe_options import CONTENTS
from apdist_verbs.described import split_of
from apdist_verbs.measure.results import Measured, judged_lines
from apdist_verbs.measure.source import notes_on_cuts
from apdist_verbs.terminal.console import counted
from apdist_verbs.terminal.progress import phase, progress_bar

if TYPE_CHECKING:
    from apdist_verbs.measure.source import Source


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
        gallery = split_of(source.run.config, source.shards, gallery_split)
        keys = gallery.column("key").to_pylist()
        splits = query_split, gallery_split
        ground_truth, views = views_of_queries(ground_truth, catalogue, keys, splits)
        uri = distractors and storage.absolute(distractors)
        refuse_distractors_of_same_images(uri, catalogue)
        own = own_rows(ground_truth, keys)
        source.expansion.refuse_too_many(len(keys), 1 if uri else 0, has_own=bool(own))
        if uri:  # whether there are any, before hours of describing
            open_tables(uri, model_id=source.model.model_id)
    queries = source.views(catalogue, "queries", views)
    tables = None
    if uri:
        tables = open_tables(uri, width=queries.shape[1], model_id=source.model.model_id)
    database = source.split(gallery_split).descriptors
    if source.expansion.is_any:
        with phase("finding neighbours"):
            more = tables.parts if tables else None
            queries, database = source.expansion.applied(queries, database, more, own)
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
        title=f"{source.run.name}: {counted(len(views), 'query', 'queries')} against "
        f"{len(keys) + num_more:,} images",
        lines=judged_lines(parts),
        num_queries=len(views),
        num_queries_without_positive={s.part: s.num_queries_without_positive for s in parts},
        facts={
            **source.facts(),
            "gallery_split": gallery_split,
            "num_cropped_queries": cropped,
            "num_images": len(keys),
            "num_distractors": num_more,
        },
        notes=[*notes_on_cuts(source), *_notes(cropped, len(views), num_more)],
    )


def refuse_distractors_of_same_images(distractors: str, catalogue: Catalogue) -> None:
    """Refuse distractors that are the images of ``catalogue`` themselves.

    Raises:
        ValueError: the tables are of these images, so that right answers would count as wrong.
    """
    uri = storage.join(distractors, CONTENTS)
    if not distractors or not storage.exists(uri):
        return
    try:
        data = read_json(storage.read_bytes(uri))["data"]
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
