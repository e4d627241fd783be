"""Every figure that is logged or shown: key, label, how to get it, format, and where it is seen.

A new figure is one line in `STEP`, `EVALUATION` or `JUDGED`: log, console, MLflow and report read
these.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from apdist.config.loss import Bins

if TYPE_CHECKING:
    from apdist.config.loss import LossOptions
    from apdist.data.loading.telemetry import StreamFigures
    from apdist.retrieval.metrics import RetrievalScores
    from apdist.retrieval.protocols.scores import JudgedScores
    from apdist.training.step.results import StepResult

Source = TypeVar("Source")


class Seen(enum.Flag):
    """Where a figure is seen."""

    LOG = enum.auto()
    """In events: in metrics.jsonl by its key, in MLflow in a section (`tracking/names.py`)."""
    LIVE = enum.auto()
    """In the console while training goes on, and as a curve in the report."""
    CONSOLE = enum.auto()
    """In the table that `apdist evaluate` prints."""
    REPORT = enum.auto()
    """In the report's table of all figures."""
    CARD = enum.auto()
    """On a card at the top of the report."""


FOLLOWED = Seen.LOG | Seen.LIVE
SHOWN = Seen.CONSOLE | Seen.REPORT
SCORE = Seen.LOG | SHOWN
TERM = "loss_"
"""Begins the key of a term of a sum of losses."""

MACHINE = (
    *("cpu_utilization_percentage", "system_memory_usage_megabytes"),
    *("system_memory_usage_percentage", "disk_usage_megabytes", "disk_usage_percentage"),
    *("network_receive_megabytes", "network_transmit_megabytes"),
)
"""Of a machine, by the names that MLflow has for them."""
GPU = "gpu_"
"""Begins those of its GPUs: gpu_0_utilization_percentage."""


@dataclass(frozen=True)
class Figure(Generic[Source]):
    """A number that is worth knowing."""

    key: str
    """In events and metrics.jsonl."""
    label: str
    """What a person reads."""
    get: Callable[[Source], float | None]
    """Its value; None where there is none."""
    seen: Seen = Seen.LOG
    format: str = ".4f"
    unit: str = ""
    """Set behind the number in a line, in place of the label before it."""
    note: str = ""
    """Below its curve."""
    is_share: bool = False
    """Its curve is drawn between 0 and 1."""
    convention: str = ""
    """What it counts, in words: published code means different things by one name."""

    def number(self, value: float) -> str:
        """``value`` as a person reads it."""
        return f"{value:{self.format}}"

    def text(self, value: float) -> str:
        """``value`` with what it is."""
        number = self.number(value)
        return f"{number} {self.unit}" if self.unit else f"{self.label} {number}"


@dataclass(frozen=True)
class MeasuredStep:
    """What is known of a step, of one or more global batches."""

    results: list[StepResult]
    """One of each batch."""
    stream: StreamFigures
    """What its images took on this worker."""
    num_replaced: int
    """Images replaced, on all workers."""
    num_images: int
    """In all batches, on all workers."""
    seconds: float
    stalled_s: float
    """Before it, for a checkpoint's copy of the state."""
    device_peak_mib: float
    """Most memory of this worker since it began; 0 without a GPU."""
    host_peak_mib: float
    """Likewise, of the host."""
    learning_rate: float
    bins: LossOptions | None
    """Of the listwise loss; None for another one."""

    @property
    def loss(self) -> float:
        """Mean over the batches."""
        return self.mean(lambda result: result.loss)

    @property
    def binned_map(self) -> float | None:
        """Mean over the batches; None without bins."""
        if self.bins is None:
            return None
        return 1 - self.mean(lambda result: result.listwise_loss or 0.0)

    def terms(self, names: Iterable[str]) -> dict[str, float]:
        """Mean over the batches of each term, with keys of the ``names`` of the terms."""
        batches = [result.term_losses for result in self.results]
        means = [fmean(losses) for losses in zip(*batches, strict=True)]
        pairs = zip(names, means, strict=True)
        return {TERM + name.replace(":", "_"): mean for name, mean in pairs}

    @property
    def num_lone_queries(self) -> float:
        """Queries without a positive in all batches."""
        return self.total(lambda result: result.diagnostics.num_lone_queries)

    @property
    def wrong_sign_share(self) -> float | None:
        """Share of the positive pairs that are pushed apart; None without bins."""
        if self.bins is None:
            return None
        return self.mean(lambda result: result.diagnostics.wrong_sign_share)

    def total(self, get: Callable[[StepResult], float]) -> float:
        """Sum of a value over the batches."""
        return sum(get(result) for result in self.results)

    def mean(self, get: Callable[[StepResult], float]) -> float:
        """Mean of a value over the batches."""
        return self.total(get) / len(self.results)

    def similarity(self, kind: Literal["positive", "negative"]) -> float | None:
        """Mean similarity of the ``kind`` pairs; None without such pairs."""
        bins = self.bins or Bins(num_bins=2)
        mean = self.mean(lambda result: result.diagnostics.mean_score(kind, bins))
        return None if math.isnan(mean) else mean


STEP: tuple[Figure[MeasuredStep], ...] = (
    Figure("seconds", "seconds", lambda s: s.seconds),
    Figure(
        *("loss", "loss", lambda s: s.loss, FOLLOWED),
        note="One value per step, and its moving mean.",
    ),
    Figure(
        *("binned_map", "binned mAP", lambda s: s.binned_map, FOLLOWED, ".3f"),
        note="Of the training batches, as the loss sees it.",
        is_share=True,
    ),
    Figure(
        *("images_per_s", "throughput", lambda s: s.num_images / s.seconds, FOLLOWED, ".0f"),
        unit="images/s",
        note="Images per second.",
    ),
    Figure("learning_rate", "learning rate", lambda s: s.learning_rate),
    Figure("describe_s", "seconds of stage 1", lambda s: s.total(lambda r: r.seconds.describe)),
    Figure("score_s", "seconds of stage 2", lambda s: s.total(lambda r: r.seconds.score)),
    Figure("backprop_s", "seconds of stage 3", lambda s: s.total(lambda r: r.seconds.backprop)),
    Figure("exchange_s", "seconds of exchange", lambda s: s.total(lambda r: r.seconds.exchange)),
    Figure("stalled_s", "seconds stalled by a checkpoint", lambda s: s.stalled_s),
    Figure("device_peak_mib", "most MiB of the GPU", lambda s: s.device_peak_mib or None),
    Figure("host_peak_mib", "most MiB of the host", lambda s: s.host_peak_mib),
    Figure("lone_queries", "lone queries", lambda s: s.num_lone_queries),
    Figure("megabytes_received", "MB received", lambda s: s.total(lambda r: r.num_bytes) / 1e6),
    Figure("wrong_sign_share", "positives pushed apart", lambda s: s.wrong_sign_share),
    Figure("positive_similarity", "similarity of positives", lambda s: s.similarity("positive")),
    Figure("negative_similarity", "similarity of negatives", lambda s: s.similarity("negative")),
    Figure("waited_s", "seconds waited", lambda s: s.stream.waited_s),
    Figure("replaced_images", "images replaced", lambda s: s.num_replaced),
    Figure("read_mb_per_s", "MB/s read", lambda s: s.stream.num_bytes / 1e6 / s.seconds),
    Figure("read_s", "seconds of reading", lambda s: s.stream.read_s),
    Figure("decode_s", "seconds of decoding", lambda s: s.stream.decode_s),
    Figure("read_retries", "reads tried again", lambda s: s.stream.num_retries),
    Figure("steps_ready", "steps ready", lambda s: s.stream.num_ready),
    Figure("cache_hits", "cache hits", lambda s: s.stream.num_hits),
    Figure("cache_misses", "cache misses", lambda s: s.stream.num_misses),
)
"""Of a training step."""

_SUM_RULE = "precision at each positive, mean over all positives (sum rule)"
_TRAPEZOID = "precision before and at each positive, halved, mean over all (trapezoid rule)"
_R_PRECISION = "positives among the first R, over R, the query's number of positives"
_MAP_AT_R = "precision at each positive among the first R, over R"
_RECIPROCAL = "1 / place of the first positive"


def _map_at(k: int) -> str:
    return f"precision at each positive among the first {k}, over min({k}, positives)"


def _recall_at(k: int) -> str:
    return f"share of queries with a positive among the first {k}; not of positives found"


def recall_figure(k: int, seen: Seen = SHOWN) -> Figure[RetrievalScores]:
    """R@k of retrieval scores."""
    return Figure(
        *(f"recall_at_{k}", f"R@{k}", lambda s: s.recall_at.get(k), seen),
        convention=_recall_at(k),
    )


EVALUATION: tuple[Figure[RetrievalScores], ...] = (
    Figure(
        *("map", "mAP", lambda s: s.mean_average_precision, SCORE | Seen.LIVE | Seen.CARD),
        convention=_SUM_RULE,
    ),
    recall_figure(1, SCORE | Seen.LIVE | Seen.CARD),
    recall_figure(5, SCORE),
    recall_figure(10, SCORE | Seen.CARD),
    Figure(
        *("r_precision", "R-precision", lambda s: s.r_precision, SCORE | Seen.LIVE | Seen.CARD),
        convention=_R_PRECISION,
    ),
    Figure("map_at_r", "mAP@R", lambda s: s.map_at_r, SHOWN, convention=_MAP_AT_R),
    Figure("map_at_5", "mAP@5", lambda s: s.map_at.get(5), Seen.REPORT, convention=_map_at(5)),
    Figure("map_at_10", "mAP@10", lambda s: s.map_at.get(10), Seen.REPORT, convention=_map_at(10)),
    Figure(
        *("mean_reciprocal_rank", "MRR", lambda s: s.mean_reciprocal_rank, SHOWN | Seen.CARD),
        convention=_RECIPROCAL,
    ),
    Figure("num_queries", "queries", lambda s: float(s.num_queries), format=".0f"),
)
"""Of retrieval scores."""


def _judged(key: str, label: str, convention: str) -> Figure[JudgedScores]:
    return Figure(key, label, lambda s: s.figures.get(key), SHOWN, convention=convention)


def _precision_at(k: int) -> Figure[JudgedScores]:
    depth = f"the first min({k}, place of the last positive)"
    return _judged(f"precision_at_{k}", f"mP@{k}", f"positives among {depth}, over that number")


PARTS = ("easy", "medium", "hard")
"""Parts of a protocol whose positives are of two kinds."""
JUDGED: tuple[Figure[JudgedScores], ...] = (
    _judged("map_trapezoid", "mAP (trapezoid)", _TRAPEZOID),
    _judged("map", "mAP", _SUM_RULE),
    _judged("map_at_100", "mAP@100", _map_at(100)),
    _judged("map_at_1000", "mAP@1k", _map_at(1000)),
    _judged("map_at_r", "mAP@R", _MAP_AT_R),
    _judged("r_precision", "R-precision", _R_PRECISION),
    _judged("mean_reciprocal_rank", "MRR", _RECIPROCAL),
    *(_judged(f"recall_at_{k}", f"R@{k}", _recall_at(k)) for k in (1, 5, 10)),
    *map(_precision_at, (1, 5, 10)),
)
"""Of judged queries, by the protocol of a ground truth; which of them a protocol has is said in
`apdist/retrieval/protocols/scores.py`."""


def figures_of_sets() -> dict[str, str]:
    """Labels of what events of sets carry, by key; that of a part is PART/KEY, as medium/map."""
    labels = {f.key: f.label for f in JUDGED if Seen.CONSOLE in f.seen}
    labels |= {f.key: f.label for f in EVALUATION if Seen.CONSOLE in f.seen}
    parts = product(PARTS, labels.items())
    return labels | {f"{part}/{key}": f"{label}, {part}" for part, (key, label) in parts}


def main_keys(keys: Iterable[str]) -> list[str]:
    """The main figure of each part among the ``keys`` of figures of a set: it comes first."""
    firsts: dict[str, str] = {}
    for key in keys:
        firsts.setdefault(key.rpartition("/")[0], key)
    return [*firsts.values()]


def logged_keys(table: tuple[Figure[Source], ...]) -> frozenset[str]:
    """What events can carry of a source."""
    return frozenset(figure.key for figure in table if Seen.LOG in figure.seen)


def measure(
    table: tuple[Figure[Source], ...], source: Source, seen: Seen
) -> dict[Figure[Source], float]:
    """The figures of ``table`` that are seen there, as far as ``source`` has them."""
    values = {figure: figure.get(source) for figure in table if seen in figure.seen}
    return {figure: value for figure, value in values.items() if value is not None}


def logged(table: tuple[Figure[Source], ...], source: Source) -> dict[str, float]:
    """What events carry of ``source``, by key."""
    return {figure.key: value for figure, value in measure(table, source, Seen.LOG).items()}


def followed(table: tuple[Figure[Source], ...]) -> list[Figure[Source]]:
    """What is looked at while training goes on."""
    return [figure for figure in table if Seen.LIVE in figure.seen]


def texts(table: tuple[Figure[Source], ...], values: Mapping[str, float]) -> list[str]:
    """The followed figures of ``table`` among ``values``, in words."""
    return [f.text(values[f.key]) for f in followed(table) if f.key in values]
