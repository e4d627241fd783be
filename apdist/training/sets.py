"""Evaluation sets: measured beside a run's own splits, each by its protocol.

All workers describe a set together; what it is measured on is found and refused before. Nothing is
chosen by their figures.

Shapes: q queries, n images that are searched, d descriptor size.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from apdist.config import Config
from apdist.config.training import NamedSet
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.catalogue.selection import images_of
from apdist.data.ground_truth.ground_truth import GroundTruth
from apdist.data.images import Box, Fit
from apdist.figures import EVALUATION, JUDGED, Seen, measure
from apdist.retrieval.describe import views_by_row
from apdist.retrieval.metrics import RetrievalScores, score_query_rows
from apdist.retrieval.protocols.choosing import (
    ProtocolOptions,
    choose_protocol,
    ground_truth_beside,
)
from apdist.retrieval.protocols.queries import views_of_queries
from apdist.retrieval.protocols.searching import score_judged
from apdist.training.evaluation import (
    describe_together,
    score_labelled_together,
    score_together,
)
from apdist.training.events import SetMeasured
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.run_folder.keeper import Keeper
from apdist.training.step.collectives import Workers


@dataclass(frozen=True, kw_only=True, eq=False)
class EvaluationSet:
    """What a set is measured on."""

    name: str
    protocol: str
    split: str
    images: Catalogue
    """(n,) that are searched; in the labelled protocol each is a query, too."""
    queries: Catalogue | None = None
    """Of another split, or those with the queries of the ground truth."""
    ground_truth: GroundTruth | None = None
    views: Sequence[tuple[int, Box | None]] = ()
    """(q,) rows of ``queries`` and what is cut out of each, by the ground truth."""

    @property
    def num_queries(self) -> int:
        """Number of queries, q."""
        return len(self.views) or len(self.images if self.queries is None else self.queries)

    @property
    def fingerprint(self) -> str:
        """Hash of the images, the queries and the ground truth: what the figures depend on."""
        asked = "" if self.queries is None else self.queries.fingerprint()
        parts = self.protocol, self.images.fingerprint(), asked, self.ground_truth
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def measure(
        self, network: nn.Module, fit: Fit, config: Config, workers: Workers
    ) -> dict[str, float]:
        """Figures by key, on every worker; all must call it.

        Raises:
            ValueError: a descriptor is not finite; on all workers.
        """
        given = network, fit, config, workers
        database = describe_together(self.images, *given)
        if self.queries is None:
            return _shown(score_labelled_together(database, self.images, workers))
        if self.ground_truth is None:
            asked = describe_together(self.queries, *given)
            labels = torch.tensor(self.queries.labels), torch.tensor(self.images.labels)
            scores = score_together(
                lambda rows: score_query_rows(asked, labels[0], database, labels[1], rows=rows),
                len(asked),
                database.device,
                workers,
            )
            return _shown(scores)
        seen, views = views_by_row(self.queries, self.views)
        asked = describe_together(seen, *given, views)
        keys = self.images.column("key").to_pylist()
        found: dict[str, float] = {}
        # On every worker: it takes less than the images, and all raise if one does.
        for part in score_judged(asked, database, keys, self.ground_truth):
            known = {f.key: value for f, value in measure(JUDGED, part, Seen.CONSOLE).items()}
            before = "" if part.part == "all" else f"{part.part}/"
            found |= {f"{before}{key}": known[key] for key in part.figures}
        return found


def _shown(scores: RetrievalScores) -> dict[str, float]:
    return {f.key: value for f, value in measure(EVALUATION, scores, Seen.CONSOLE).items()}


def open_evaluation_set(wanted: NamedSet, config: Config) -> EvaluationSet:
    """Find what a set is measured on, by the protocol that its folder says.

    Raises:
        ValueError: shards or split are not there, the ground truth does not fit the images, or
            nothing can be measured.
    """
    try:
        return _opened(wanted, config)
    except (ValueError, storage.StorageError) as error:
        raise ValueError(f"evaluation.sets {wanted.name}: {error}") from error


def _opened(wanted: NamedSet, config: Config) -> EvaluationSet:
    catalogue = read_catalogue(wanted.shards)
    splits = catalogue.splits()
    is_judged, split = bool(ground_truth_beside(wanted.shards)), wanted.split
    said = ProtocolOptions(gallery_split=split) if is_judged else ProtocolOptions(split=split)
    chosen = choose_protocol(said, wanted.shards, splits, naming=f"{wanted.name}={wanted.shards}:")

    def select(split: str) -> Catalogue:
        return images_of(split, catalogue, config.data, config.training.seed)

    if chosen.protocol == "labelled":
        split = split or _usual_split(wanted, splits, config)
        return EvaluationSet(
            name=wanted.name, protocol=chosen.protocol, split=split, images=select(split)
        )
    images = select(chosen.gallery_split)
    queries, truth = catalogue, chosen.ground_truth
    views: Sequence[tuple[int, Box | None]] = ()
    if truth is None:
        queries = select(said.query_split)
        if not np.isin(queries.labels, images.labels).any():
            raise ValueError(
                f"no image of the split {said.query_split!r} has its label in "
                f"{chosen.gallery_split!r}, so no query would have a positive; choose another split"
            )
    else:
        keys = images.column("key").to_pylist()
        order = said.query_split, chosen.gallery_split
        truth, views = views_of_queries(truth, catalogue, keys, order)
    return EvaluationSet(
        name=wanted.name,
        protocol=chosen.protocol,
        split=chosen.gallery_split,
        images=images,
        queries=queries,
        ground_truth=truth,
        views=views,
    )


def _usual_split(wanted: NamedSet, splits: dict[str, int], config: Config) -> str:
    """The split that is measured where nobody names one: the run's, or the only one."""
    there = [name for name, number in splits.items() if number]
    if config.data.eval_split in there:
        return config.data.eval_split
    if len(there) == 1:
        return there[0]
    listed = ", ".join(f"{name} ({splits[name]} images)" for name in there)
    raise ValueError(
        f"{storage.shown(wanted.shards)} has the splits {listed}; name the one to measure: "
        f"{wanted.name}={wanted.shards}:{there[-1]}"
    )


class EvaluationSets:
    """Measures the evaluation sets of a run; all workers must call each method.

    Args:
        config: of the run.
        keeper: of what is found; it has restored the run.
        network: in training.
        fit: how images are resized.
        tell: called on worker 0 with what was found.
    """

    def __init__(
        self,
        config: Config,
        keeper: Keeper,
        network: nn.Module,
        fit: Fit,
        tell: Callable[[HistoryEvent], None],
    ) -> None:
        self.config, self.keeper, self.network, self.fit = config, keeper, network, fit
        self.tell, self.workers = tell, keeper.workers
        self.device = next(network.parameters()).device
        opened = [open_evaluation_set(wanted, config) for wanted in config.evaluation.named_sets]
        self._sets = [(found, found.fingerprint) for found in opened]

    def is_due(self, step: int) -> bool:
        """Whether they are measured on the way, after ``step`` steps."""
        every = self.config.evaluation.sets_every_steps
        return bool(self._sets) and every > 0 and step % every == 0

    def measure_due(self, step: int, blend: float, of_step: int = -1, is_end: bool = False) -> None:
        """Measure the sets that are due after ``step`` steps, and those never measured before.

        Args:
            step: steps done.
            blend: how far the network's weights lie on the way from the start.
            of_step: steps after which it had them; -1: ``step``.
            is_end: whether these are the chosen weights: all sets are due.
        """
        is_due = is_end or self.is_due(step)
        for found, data in self._sets:
            if not self._is_missing(found.name, data, step, is_due):
                continue
            with self.keeper.during(f"evaluating the set {found.name}"):
                began = time.perf_counter()
                figures = found.measure(self.network, self.fit, self.config, self.workers)
                if self.workers.rank > 0:
                    continue
                self.keeper.refuse_if_lost()
                self.tell(
                    SetMeasured(
                        step=step,
                        name=found.name,
                        protocol=found.protocol,
                        data=data,
                        num_queries=found.num_queries,
                        figures=figures,
                        seconds=time.perf_counter() - began,
                        of_step=-1 if of_step == step else of_step,
                        blend=blend,
                    )
                )

    def _is_missing(self, name: str, data: str, step: int, is_due: bool) -> bool:
        """Whether the history lacks a set that is due, or has never had it: what worker 0 says."""
        known = {
            event.step
            for event in self.keeper.history
            if isinstance(event, SetMeasured) and (event.name, event.data) == (name, data)
        }
        is_missing = step not in known if is_due else not known
        return bool(self.workers.broadcast_number(int(is_missing), self.device))
