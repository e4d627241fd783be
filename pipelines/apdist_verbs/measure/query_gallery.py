"""Queries of one split against the images of another, by their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from apdist.data.catalogue.catalogue import Catalogue
from apdist.figures import EVALUATION, recall_figure
from apdist.retrieval.metrics import RetrievalScores, score_queries
from apdist_verbs.described import split_of
from apdist_verbs.measure.results import Measured, lines_of
from apdist_verbs.measure.source import notes_on_cuts
from apdist_verbs.terminal.console import counted
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.figures import Figure
    from apdist_verbs.measure.source import Source


def measure_query_gallery(
    source: Source,
    *,
    query_split: str,
    gallery_split: str,
    recall_at: tuple[int, ...],
) -> Measured:
    """Score every image of the query split against all of the gallery split.

    Raises:
        ValueError: a split is missing, or no query has an image of its label in the gallery.
    """
    num_images = checked_gallery_size(source, query_split, gallery_split)
    source.expansion.refuse_too_many(num_images)
    queries, gallery = source.split(query_split), source.split(gallery_split)
    with phase("ranking"):
        asked, database = source.expansion.applied(queries.descriptors, gallery.descriptors)
        labels = [torch.tensor(found.catalogue.labels) for found in (queries, gallery)]
        scores = score_queries(asked, labels[0], database, labels[1], recall_at=recall_at)
    both = num_in_both(queries.catalogue, gallery.catalogue)
    notes = notes_on_cuts(source) + notes_on_depth(recall_at, num_images)
    if both:
        notes.append(
            f"{counted(both, 'query is', 'queries are')} in the gallery byte by byte, and found "
            "at once: leave them out of one of the two"
        )
    asked_for = f"{counted(scores.num_queries, 'query', 'queries')} of {query_split}"
    return Measured(
        protocol="query-gallery",
        title=f"{source.run.name}: {asked_for} "
        f"against {len(gallery.catalogue):,} images of {gallery_split}",
        lines=lines_of(evaluation_figures(recall_at), scores),
        num_queries=scores.num_queries,
        num_queries_without_positive={"all": scores.num_queries_without_positive},
        facts={
            **source.facts(),
            "query_split": query_split,
            "gallery_split": gallery_split,
            "num_images": len(gallery.catalogue),
        },
        notes=notes,
    )


def checked_gallery_size(source: Source, query_split: str, gallery_split: str) -> int:
    """Number of images of the gallery split, once it is known to share a label with the queries.

    Raises:
        ValueError: a split is missing, or they have no label in common.
    """
    names = query_split, gallery_split
    queries, gallery = (split_of(source.run.config, source.shards, name).labels for name in names)
    if not np.isin(queries, gallery).any():
        raise ValueError(
            f"no image of the split {query_split!r} has a label of the split {gallery_split!r}: "
            "none of the queries could be answered; name splits that share classes"
        )
    return len(gallery)


def notes_on_depth(recall_at: tuple[int, ...], num_images: int) -> list[str]:
    """A word where R@k looks at all images there are."""
    if max(recall_at) < num_images:
        return []
    return [f"R@{max(recall_at)} of {num_images} images is 1 whatever the model: all are looked at"]


def evaluation_figures(recall_at: tuple[int, ...]) -> tuple[Figure[RetrievalScores], ...]:
    """The figures of labelled images, with R@k at these depths."""
    known = {figure.key for figure in EVALUATION}
    others = [recall_figure(k) for k in recall_at if f"recall_at_{k}" not in known]
    return (*EVALUATION, *others)


def num_in_both(queries: Catalogue, gallery: Catalogue) -> int:
    """How many of the queries lie in the gallery, too, by checksum and size."""

    def marks(catalogue: Catalogue) -> NDArray[np.int64]:
        checksums = catalogue.column("crc32").to_numpy().astype(np.int64)
        sizes = catalogue.column("size").to_numpy().astype(np.int64)
        return np.asarray((sizes << 32) | checksums)

    return int(np.isin(marks(queries), marks(gallery)).sum())
