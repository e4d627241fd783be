"""Images of a split as a page shows them: ranked lists, classes, confusions, the map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import torch

from apdist.data.catalogue.catalogue import codes_and_names
from apdist.data.images import ImageError
from apdist.data.loading.reader import ImageReader, read_images
from apdist.report.classes import (
    ClassTable,
    ConfusedPair,
    Confusion,
    class_figures,
    class_table,
    confused_pairs,
)
from apdist.report.embedding_map import EmbeddingMap, MapImage, choose_images, draw_map
from apdist.report.gallery import RankedImage, RankedQuery, first_others
from apdist.report.pictures import DOT_SIDE, LARGEST_SIDE, Picture, read_picture
from apdist.retrieval.metrics import RetrievalScores
from apdist.retrieval.ranking import nearest_rows
from apdist_verbs.described import Described
from apdist_verbs.terminal.devices import best_device
from apdist_verbs.terminal.progress import phase

NUM_CLASSES = 200
"""Listed from either end: some 300 bytes each."""
NUM_CONFUSIONS = 12
_READ_TOGETHER = 32


class Showing:
    """The images of a split, to be shown.

    Args:
        found: with descriptors (n, d).
        scores: of each image against the rest.
        before: the same before training; None where it was not measured on these images.
    """

    def __init__(
        self, found: Described, scores: RetrievalScores, before: RetrievalScores | None
    ) -> None:
        self.catalogue = found.catalogue
        self.descriptors = found.descriptors.to(best_device())
        self.precision = scores.average_precision
        self.before = before.average_precision if before else None
        self.labels = found.catalogue.labels

    @cached_property
    def names(self) -> dict[int, str]:
        """Name of each class."""
        codes, names = codes_and_names(self.catalogue.column("label_name"))
        known, rows = np.unique(self.labels, return_index=True)
        return {
            label: str(names[code])
            for label, code in zip(known.tolist(), codes[rows].tolist(), strict=True)
        }

    @cached_property
    def pairs(self) -> list[ConfusedPair]:
        """Classes that are taken for others."""
        # An AP of 1 means that the first result is right: those need not be ranked again.
        rows = torch.nonzero(self.precision < 1)[:, 0]
        first = torch.arange(len(self.precision))
        with phase("comparing classes"):
            count = min(2, len(self.descriptors))
            _, ranked = nearest_rows(self.descriptors[rows], self.descriptors, count)
        first[rows] = first_others(rows, ranked.cpu())
        return confused_pairs(self.labels, self.precision.numpy(), first.numpy())

    def pictures(self, rows: Iterable[int], side: int = LARGEST_SIDE) -> dict[int, Picture]:
        """Images of ``rows`` by row, the longer side at most ``side``.

        Raises:
            ValueError: one cannot be read.
        """
        reader = ImageReader(self.catalogue)
        wanted, found = iter(sorted(set(rows))), dict[int, Picture]()
        sources = self.catalogue.column("source")
        while batch := list(islice(wanted, _READ_TOGETHER)):
            request = reader.request(np.array(batch))
            for place, (row, data) in enumerate(zip(batch, read_images(request), strict=True)):
                try:
                    request.check(place, data)
                except ImageError as error:
                    raise ValueError(f"{request.describe(place)} {error}") from error
                label = int(self.labels[row])
                found[row] = read_picture(
                    data,
                    side,
                    name=str(sources[row].as_py()),
                    key=request.keys[place],
                    label=self.names[label],
                    label_id=label,
                )
        return found

    def ranked(self, chosen: Sequence[tuple[str, int]], num_results: int) -> list[RankedQuery]:
        """Queries, as heading and row, with the top of their ranked lists."""
        rows = torch.tensor([row for _, row in chosen], dtype=torch.int64)
        count = min(num_results + 1, len(self.descriptors))
        scores, ranked = nearest_rows(self.descriptors[rows], self.descriptors, count)
        pictures = self.pictures([*rows.tolist(), *ranked.flatten().tolist()])
        return [
            RankedQuery(
                **vars(pictures[row]),
                average_precision=float(self.precision[row]),
                results=tuple(
                    RankedImage(
                        **vars(pictures[other]),
                        score=score,
                        is_hit=bool(self.labels[other] == self.labels[row]),
                    )
                    for score, other in zip(values, others, strict=True)
                    if other != row
                )[:num_results],
                row=row,
                before=None if self.before is None else float(self.before[row]),
                group=group,
            )
            for (group, row), values, others in zip(
                chosen, scores.tolist(), ranked.tolist(), strict=True
            )
        ]

    def confusions(self) -> tuple[Confusion, ...]:
        """The classes that are taken for others most, each with an example."""
        shown = self.pairs[:NUM_CONFUSIONS]
        pictures = self.pictures(row for pair in shown for row in (pair.row, pair.first))
        return tuple(
            Confusion(
                label=pair.label,
                name=self.names[pair.label],
                other=pair.other,
                other_name=self.names[pair.other],
                count=pair.count,
                num_queries=pair.num_queries,
                query=pictures[pair.row],
                result=pictures[pair.first],
            )
            for pair in shown
        )

    def classes(self, also: Iterable[int]) -> ClassTable:
        """The worst and the best, and those of labels ``also``."""
        before = None if self.before is None else self.before.numpy()
        figures = class_figures(self.labels, self.names, self.precision.numpy(), before, self.pairs)
        return class_table(figures, self.names, num_each=NUM_CLASSES, also=set(also))

    def map(self, queries: Sequence[RankedQuery], most: int) -> EmbeddingMap | None:
        """At most ``most`` images by their descriptors, the classes of ``queries`` first."""
        if most == 0:
            return None
        rows = choose_images(self.labels, [query.label_id for query in queries], most)
        precision = self.precision[rows].tolist()
        pictures = self.pictures(rows, DOT_SIDE)
        images = [
            MapImage(**vars(pictures[row]), row=row, average_precision=_known(value))
            for row, value in zip(rows, precision, strict=True)
        ]
        with phase("drawing the map"):
            return draw_map(self.descriptors[rows].cpu(), images, len(self.labels), len(self.names))


def _known(value: float) -> float | None:
    return None if value != value else value
