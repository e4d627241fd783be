"""Whether a training does what it is for: judged by its curves, told in a line with a remedy.

What is told is kept in the history as `Noticed`, each topic once a run. The rules are made to be
silent about a curve that is only noisy, that fine-tunes a good network, or that has converged.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from apdist.config import Config
from apdist.data.plan.batch_sampler import PlanSummary
from apdist.training.events import Evaluated, Noticed, StepDone
from apdist.training.run_folder.history import HistoryEvent

LISTWISE = frozenset({"ap", "tie_aware", "tie_aware_simplified", "smooth_ap", "recall_at_k"})
"""Losses that rank the whole batch: in a small one there is nothing to rank."""

LEAST_NEGATIVES = 50
GOOD_MAP = 0.9
"""A network that ranks as well as this may well stay where it is."""
ONE_POINT, SAME = 0.95, 0.01
"""Descriptors are one point where pairs are more similar than the one, and negatives differ from
positives by less than the other. An untrained network begins there, and leaves in a few steps."""


@dataclass
class Curve:
    """What is judged of a history.

    Args:
        steps: that the training is going to do.
        split: whose evaluations are looked at.
    """

    steps: int
    split: str
    losses: list[float] = field(default_factory=list)
    """Loss of every step so far."""
    similarities: list[tuple[float, float]] = field(default_factory=list)
    """Mean of the positive and of the negative pairs, of every step that has them."""
    evaluations: list[tuple[int, float, float]] = field(default_factory=list)
    """Step, mAP and number of queries; nan where that is not known."""

    def add(self, event: HistoryEvent) -> None:
        """Take in what was measured."""
        if isinstance(event, Evaluated) and event.split != self.split:
            return
        figures = event.figures if isinstance(event, StepDone | Evaluated) else {}
        if "loss" in figures:
            self.losses.append(figures["loss"])
        if "positive_similarity" in figures and "negative_similarity" in figures:
            found = figures["positive_similarity"], figures["negative_similarity"]
            self.similarities.append(found)
        if "map" in figures:
            queries = figures.get("num_queries", math.nan)
            self.evaluations.append((event.step, figures["map"], queries))


def fell_below_start(curve: Curve) -> str:
    """How the last evaluation compares with the first one, where it is below it."""
    if len(curve.evaluations) < 2 or curve.evaluations[-1][0] < curve.steps:
        return ""
    (before, first, queries), (after, last, _) = curve.evaluations[0], curve.evaluations[-1]
    if first - last <= tolerance(first, queries, 0.02):
        return ""
    return f"mAP is {last:.4f} after step {after}, below the {first:.4f} after step {before}"


def keeps_falling(curve: Curve) -> str:
    """How far mAP has fallen, where three evaluations in a row lie far below what it was.

    What it was: the best but one, because the best may be luck. An untrained network, or one that
    is fine-tuned, has been measured once only.
    """
    if len(curve.evaluations) < 4:
        return ""
    *before, first, second, third = curve.evaluations
    if third[1] > first[1]:
        return ""
    ranked = sorted(before, key=lambda evaluation: -evaluation[1])
    step, reached, queries = ranked[1 if len(ranked) > 2 else 0]
    if reached - max(first[1], second[1], third[1]) <= tolerance(reached, queries, 0.1):
        return ""
    return (
        f"mAP has fallen from {reached:.4f} after step {step} to {first[1]:.4f}, {second[1]:.4f} "
        f"and {third[1]:.4f} (step {third[0]})"
    )


def tolerance(score: float, num_queries: float, share: float) -> float:
    """A difference in mAP that says nothing.

    Args:
        score: the mAP compared with.
        num_queries: of the evaluation; nan if not known.
        share: of the score.

    Returns:
        Half the largest standard error that a mean of so many APs can have, or that share. (The
        queries are the same each time, which makes differences smaller.)
    """
    error = math.sqrt(score * (1 - score) / num_queries) if num_queries > 0 else 0.0
    return max(share * score, error / 2)


def stays_flat(curve: Curve) -> str:
    """How long the loss has not moved, where nothing else says that anything is learnt."""
    num = len(curve.losses)
    if num < max(40, min(curve.steps // 2, 1000)):
        return ""
    half = min(num // 4, 200)
    older, newer = np.array(curve.losses[-2 * half : -half]), np.array(curve.losses[-half:])
    noise = math.sqrt((older.var() + newer.var()) / half)
    is_moving = abs(older.mean() - newer.mean()) > max(0.005 * abs(older.mean()), 2 * noise)
    if is_moving or _has_learnt(curve, float(newer.mean())):
        return ""
    since = f"the loss has not moved for {2 * half} steps ({older[0]:.4f}, now {newer[-1]:.4f})"
    if len(curve.evaluations) < 2:
        return since
    return f"{since}, nor has mAP risen: {curve.evaluations[0][1]:.4f} at first, now " + (
        f"{curve.evaluations[-1][1]:.4f}"
    )


def _has_learnt(curve: Curve, loss: float) -> bool:
    if len(curve.evaluations) < 2:
        return loss < 0.95 * fmean(curve.losses[:5])
    (_, first, queries), (_, last, _) = curve.evaluations[0], curve.evaluations[-1]
    best = max(score for _, score, _ in curve.evaluations)
    return best - first > tolerance(first, queries, 0.02) or last >= GOOD_MAP


def is_one_point(curve: Curve) -> str:
    """How similar all images are, where they have been one point for many steps."""
    num, window = len(curve.similarities), max(10, min(curve.steps // 8, 50))
    if num < min(2 * window, curve.steps):
        return ""
    recent = curve.similarities[-window:]
    if len(recent) < 2 or not all(n > ONE_POINT and p - n < SAME for p, n in recent):
        return ""
    positive, negative = recent[-1]
    return (
        f"the descriptors of all images are nearly one point: for {len(recent)} steps positive "
        f"pairs are as similar as negative ones ({positive:.4f} and {negative:.4f}; loss "
        f"{curve.losses[-1]:.4f})"
    )


def few_negatives(labels: Sequence[int], num_images: int) -> str:
    """How few images of other classes a query is ranked with, where the data have more.

    Args:
        labels: of a batch.
        num_images: that are trained on.
    """
    sizes = Counter(labels)
    negatives = len(labels) - fmean(sizes[label] for label in labels)
    if negatives >= LEAST_NEGATIVES or num_images < 2 * len(labels):
        return ""
    return (
        f"a batch of {len(labels)} images is small for a loss that ranks it: {negatives:.0f} "
        "negatives for a query"
    )


def few_positives(labels: Sequence[int], class_size: float) -> str:
    """How few positives a query has, where the data have more.

    Args:
        labels: of a batch.
        class_size: mean number of images of a class.
    """
    sizes = Counter(labels)
    positives = fmean(sizes[label] for label in labels) - 1
    if positives >= 1.5 or class_size < 4:
        return ""
    return f"a query has {positives:.1f} positives in a batch, of {class_size - 1:.0f} in the data"


class Judge:
    """Notices what goes wrong in a training, each topic once.

    Args:
        config: of the run; remedies name its options.
        history: what has happened before.
        watched: the split that is measured as the training goes on.
    """

    def __init__(
        self, config: Config, history: Iterable[HistoryEvent] = (), watched: str = ""
    ) -> None:
        self.config = config
        self.curve = Curve(config.training.steps, watched or config.data.eval_split)
        self.told: set[str] = set()
        for event in history:
            self.curve.add(event)
            if isinstance(event, Noticed):
                self.told.add(event.topic)

    def of_batch(self, labels: Sequence[int], summary: PlanSummary) -> list[Noticed]:
        """What the first batch says, before a step is done."""
        if LISTWISE.isdisjoint(self.config.loss.weights):
            return []
        size = min(256, summary.num_images // 2 * 2)
        class_size = summary.num_images / summary.num_classes
        return self._new(
            0,
            {
                "few_negatives": (
                    lambda: few_negatives(labels, summary.num_images),
                    f"use --training.batch-size {size} or more; what it takes of memory depends "
                    "on --training.chunk-size alone",
                ),
                "few_positives": (
                    lambda: few_positives(labels, class_size),
                    f"use --data.group-size 4 or more (now {self.config.data.group_size})",
                ),
            },
        )

    def after(self, event: HistoryEvent) -> list[Noticed]:
        """What the curves say after ``event`` that they did not say before."""
        self.curve.add(event)
        rate = f"--training.learning-rate (now {self.config.training.learning_rate:g})"
        now, others = self.config.loss.shown, LISTWISE.isdisjoint(self.config.loss.weights)
        other = f", or the listwise loss: --loss.kind ap (now {now})" if others else ""
        lower = f"use a lower {rate}{other}"
        rules = {
            "one_point": (lambda: is_one_point(self.curve), lower),
            "flat": (lambda: stays_flat(self.curve), f"use another {rate}{other}"),
        }
        if isinstance(event, Evaluated):
            rules["falling"] = (lambda: keeps_falling(self.curve), lower)
            back = f"the network that it began with is better; {lower}"
            rules["worse"] = (lambda: fell_below_start(self.curve), back)
        elif not isinstance(event, StepDone):
            return []
        return self._new(event.step, rules)

    def _new(self, step: int, rules: dict[str, tuple[Callable[[], str], str]]) -> list[Noticed]:
        found = []
        for topic, (seen, remedy) in rules.items():
            if topic not in self.told and (text := seen()):
                self.told.add(topic)
                found.append(Noticed(step=step, topic=topic, text=f"{text}; {remedy}"))
        return found
