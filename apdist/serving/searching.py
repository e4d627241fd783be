"""Queries to answers: decoded in a few threads, described and searched for in batches.

Shapes: b jobs of a batch, d descriptor size, k results.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.data.images import ImageError, evaluation_image
from apdist.data.storage import StorageError
from apdist.model.describing import describe_seen
from apdist.retrieval.querying.entry_images import image_of, place_of
from apdist.retrieval.querying.results import results_of
from apdist.retrieval.search_index import SearchIndex
from apdist.serving.batching import Batcher
from apdist.serving.decoding import DecodingRoom
from apdist.serving.limits import Limits, RefusedError
from apdist.serving.metrics import Metrics
from apdist.serving.snapshot import Snapshot
from apdist.serving.uploads import Query, check_box, check_picture, undecodable

logger = logging.getLogger(__name__)

NUM_DECODERS = 4
"""Pictures that are decoded at once."""
_NO_ROW = -2
"""Row of a query that is no image of the index."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchJob:
    """A decoded query, ready to be searched in a batch with others."""

    snapshot: Snapshot
    """The index that it began with."""
    query: Query
    image: NDArray[np.uint8] | None
    """(3, h, w) as the network sees it; None where the descriptor is that of the index."""
    own: int
    """Row of the image that is searched for, which is no result."""
    mask: Tensor | None
    """(n,) bool: images that may be found."""

    @property
    def group(self) -> tuple[object, ...]:
        """Jobs of one group are one search."""
        query = self.query
        return id(self.snapshot), query.where, query.k, query.least_score, self.own >= 0


Found = list[dict[str, Any]]


class Searcher:
    """Answers queries.

    Args:
        limits: of a query.
        metrics: that count batches.
        room: where pictures are decoded.
        most: queries of a batch.
        wait_s: for more queries after the first.
    """

    def __init__(
        self, limits: Limits, metrics: Metrics, room: DecodingRoom, *, most: int, wait_s: float
    ) -> None:
        self.limits, self._metrics, self._room = limits, metrics, room
        self.batcher: Batcher[SearchJob, Found] = Batcher(self._work, most=most, wait_s=wait_s)
        self.decoders = ThreadPoolExecutor(NUM_DECODERS, thread_name_prefix="decoder")

    async def search(self, snapshot: Snapshot, query: Query) -> Found:
        """The results of a query, best first.

        Raises:
            RefusedError: the picture cannot be decoded, there is no image of such a key, or a
                condition is none.
        """
        loop = asyncio.get_running_loop()
        job = await loop.run_in_executor(self.decoders, self.job, snapshot, query)
        return await asyncio.wrap_future(self.batcher.submit(job))

    def warm_up(self, snapshot: Snapshot) -> None:
        """Search once: what is compiled and reserved then, the first person need not wait for."""
        width, height = snapshot.opened.model.fit.size(256, 256)
        blank = np.zeros((3, height, width), dtype=np.uint8)
        job = SearchJob(snapshot=snapshot, query=Query(), image=blank, own=_NO_ROW, mask=None)
        self.batcher.submit(job).result()

    def close(self) -> None:
        """Answer what is under way, then end."""
        self.decoders.shutdown(wait=True)
        self.batcher.close()

    def job(self, snapshot: Snapshot, query: Query) -> SearchJob:
        """A query, made ready for a batch.

        Raises:
            RefusedError: as `search`.
        """
        try:
            mask = snapshot.mask(query.where)
        except ValueError as error:
            raise RefusedError(422, "invalid_filter", str(error)) from error
        own, data = _NO_ROW, query.image
        if query.key:
            own = row_of(snapshot, query.key)
            data = picture_of(snapshot, own, query.key) if query.box else b""
        image = self._seen(snapshot, data, query) if data or not query.key else None
        return SearchJob(snapshot=snapshot, query=query, image=image, own=own, mask=mask)

    def _seen(self, snapshot: Snapshot, data: bytes, query: Query) -> NDArray[np.uint8]:
        width, height = check_picture(data, self.limits)
        if query.box:
            check_box(query.box, (width, height))
        try:
            with self._room.held(width * height):
                return evaluation_image(data, snapshot.opened.model.fit, query.box)
        except ImageError as error:
            raise undecodable(error) from error
        except MemoryError as error:
            raise RefusedError(
                413, "too_many_pixels", "the picture takes too much memory"
            ) from error

    def _work(self, jobs: list[SearchJob]) -> Sequence[Found | Exception]:
        """The answers to the jobs of a batch, in their order."""
        start = time.perf_counter()
        descriptors = described(jobs)
        groups: dict[tuple[object, ...], list[int]] = {}
        for number, job in enumerate(jobs):
            groups.setdefault(job.group, []).append(number)
        answers: list[Found | Exception] = [[] for _ in jobs]
        for numbers in groups.values():
            its = [jobs[number] for number in numbers]
            found: Sequence[Found | Exception]
            try:
                found = searched(its, torch.stack([descriptors[number] for number in numbers]))
            except Exception as error:  # of this group alone
                logger.error("a search failed: %s: %s", type(error).__name__, error)
                found = [error for _ in its]
            for number, one in zip(numbers, found, strict=True):
                answers[number] = one
        self._metrics.batch(len(jobs), time.perf_counter() - start)
        return answers


def row_of(snapshot: Snapshot, key: str) -> int:
    """The row of an image of the index.

    Raises:
        RefusedError: there is none.
    """
    row = snapshot.row(key)
    if row is None:
        raise RefusedError(404, "no_such_key", f"the index has no image of the key {key[:300]!r}")
    return row


def picture_of(snapshot: Snapshot, row: int, key: str) -> bytes:
    """The encoded picture of an image of the index.

    Raises:
        RefusedError: it cannot be read any more, or the index does not say where it lies.
    """
    entry = snapshot.entry(row)
    if not place_of(entry):
        raise RefusedError(
            404, "no_picture", f"the index does not say where the picture of {key[:300]!r} lies"
        )
    try:
        return image_of(entry)
    except (StorageError, OSError) as error:
        logger.warning("the picture of the key %r: %s", key, error)
        raise RefusedError(
            404, "picture_gone", f"the picture of the key {key[:300]!r} cannot be read any more"
        ) from error


def described(jobs: Sequence[SearchJob]) -> list[Tensor]:
    """(b) descriptors (d,): pictures of one model with one pass, those of the index as they are."""
    found: dict[int, Tensor] = {}
    by_model: dict[int, list[int]] = {}
    for number, job in enumerate(jobs):
        if job.image is None:
            found[number] = stored(job)
        else:
            by_model.setdefault(id(job.snapshot), []).append(number)
    for numbers in by_model.values():
        network = jobs[numbers[0]].snapshot.opened.model.network
        images = [image for number in numbers if (image := jobs[number].image) is not None]
        found |= dict(zip(numbers, describe_seen(network, images), strict=True))
    return [found[number] for number in range(len(jobs))]


def stored(job: SearchJob) -> Tensor:
    """(d,) the descriptor that the index has of the image."""
    index, row = job.snapshot.opened.index, job.own
    if isinstance(index, SearchIndex):
        return index.descriptors[row]
    for one in index.indexes.values():
        if row < len(one):
            return one.descriptors[row]
        row -= len(one)
    raise AssertionError


def searched(jobs: Sequence[SearchJob], descriptors: Tensor) -> list[Found]:
    """(b) results of the ``descriptors`` (b, d) of the jobs of one group, best first."""
    first = jobs[0]
    query, index = first.query, first.snapshot.opened.index
    has_own = first.own >= 0
    results = results_of(
        query.k,
        (range(len(jobs)), [""] * len(jobs)),
        index.search(descriptors, query.k + has_own, where=first.mask),
        index.entries,
        own=torch.tensor([job.own for job in jobs]) if has_own else None,
        least_score=query.least_score,
    )
    return [found for _, found in results.by_query()]
