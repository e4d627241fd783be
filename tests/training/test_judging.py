"""What is noticed of a training, on curves of real runs and on made-up ones."""

import random
from collections.abc import Iterable

import pytest

from apdist.config import Config, override
from apdist.data.plan.batch_sampler import PlanSummary
from apdist.training.events import Evaluated, Noticed, StepDone
from apdist.training.judging import Judge
from apdist.training.run_folder.history import HistoryEvent

DEMO_LOSSES = (
    "988 987 986 985 984 983 982 977 973 970 958 937 964 951 913 889 917 896 869 889 826 "
    "833 821 792 824 742 738 783 730 727 718 724 701 651 659 655 631 556 634 572 549 601 "
    "512 531 475 482 449 401 458 461 386 405 329 368 349 345 315 294 332 311 329 304 230 "
    "329 257 275 285 264 295 279 248 292 234 318 243 277 272 188 252 234 227 216 258 145 "
    "204 210 188 200 176 199 202 194 162 198 200 208 141 208 206 151 164 221 185 141 202 "
    "147 157 147 176 185 150 190 205 206 176 138 128 175 139 169 163 125 155 174 135 126 "
    "149 143 134 136 137 128 125 163 129 110 123 139 133 150 153 149 137 131 125 154 198 "
    "112 130 106 127 116 148 163 136 127 104 109 161 150 114 129 125 102 88 106 109 97 "
    "137 128 104 115 132 87 104 98 113 103 124 101 113 105 128 78 117 139 113 78 100 121 "
    "105 101 106 100 97 88 68 105 93 95 103 117 86 95 92 131 91 104 63 96 72 102 88 99 75 "
    "67 77 73 106 126 107 78 90 104 77 84 87 116 67 98 96 101 82 82 110 81 111 78 116 96 "
)
"""Thousandths, of the demo's 240 steps."""
DEMO_POSITIVES = (
    "955 943 899 802 719 733 700 699 613 613 450 430 851 802 705 664 778 670 701 717 694 "
    "664 747 588 753 607 634 623 626 734 "
)
"""Thousandths: mean similarity of the first 30 steps; it begins as one point, as any untrained
network does."""
DEMO_NEGATIVES = (
    "955 942 897 795 706 704 674 627 551 555 391 341 812 742 590 509 651 493 516 592 490 "
    "427 600 328 597 338 358 385 317 484 "
)
DEMO_MAP = {
    0: 0.012,
    30: 0.2789,
    60: 0.6843,
    90: 0.7724,
    120: 0.8148,
    150: 0.8368,
    180: 0.8535,
    210: 0.8636,
    240: 0.8661,
}
TRIPLET_MAP = {
    0: 0.012,
    30: 0.0113,
    60: 0.0098,
    90: 0.0084,
    120: 0.0084,
    150: 0.0082,
    180: 0.0081,
    210: 0.0077,
    240: 0.0079,
}
"""Of the demo with the batch-hard triplet loss, whose descriptors become one point."""


def thousandths(text: str) -> list[float]:
    return [int(number) / 1000 for number in text.split()]


def config(**options: object) -> Config:
    names = {name.replace("__", "."): value for name, value in options.items()}
    return override(Config(), {"training.steps": 240, "training.learning_rate": 5e-3} | names)


def history(
    losses: Iterable[float] = (),
    evaluations: dict[int, float] | None = None,
    similarities: Iterable[tuple[float, float]] = (),
    num_queries: int = 4094,
) -> list[HistoryEvent]:
    """Events in their order."""
    scores = evaluations or {}
    events: list[HistoryEvent] = []
    pairs = list(similarities)
    steps = list(losses)
    for step in range(max([len(steps), *scores]) + 1):
        if 0 < step <= len(steps):
            figures = {"loss": steps[step - 1]}
            if step <= len(pairs):
                positive, negative = pairs[step - 1]
                figures |= {"positive_similarity": positive, "negative_similarity": negative}
            events.append(StepDone(step=step, figures=figures))
        if step in scores:
            figures = {"map": scores[step], "num_queries": float(num_queries)}
            events.append(Evaluated(step=step, split="test", figures=figures, seconds=1.0))
    return events


def noticed(events: Iterable[HistoryEvent], options: Config | None = None) -> list[Noticed]:
    judge = Judge(options or config())
    return [notice for event in events for notice in judge.after(event)]


def topics(events: Iterable[HistoryEvent], options: Config | None = None) -> list[tuple[int, str]]:
    return [(notice.step, notice.topic) for notice in noticed(events, options)]


def test_nothing_is_noticed_of_the_demo() -> None:
    pairs = zip(thousandths(DEMO_POSITIVES), thousandths(DEMO_NEGATIVES), strict=True)
    assert topics(history(thousandths(DEMO_LOSSES), DEMO_MAP, pairs)) == []


def test_a_triplet_loss_at_its_margin_is_noticed_with_its_figures_and_a_remedy() -> None:
    losses = [0.1 + 0.063 * 0.5**step for step in range(240)]
    pairs = [(1 - 0.05 * 0.8**step, 1 - 0.051 * 0.8**step) for step in range(240)]
    options = config(loss__kind="triplet")
    found = {n.topic: n for n in noticed(history(losses, TRIPLET_MAP, pairs), options)}
    assert {topic: n.step for topic, n in found.items()} == {
        "one_point": 60,
        "falling": 120,
        "flat": 120,
        "worse": 240,
    }
    remedy = (
        "use a lower --training.learning-rate (now 0.005), or the listwise loss: --loss.kind ap"
    )
    assert found["one_point"].text == (
        "the descriptors of all images are nearly one point: for 30 steps positive pairs are as "
        f"similar as negative ones (1.0000 and 1.0000; loss 0.1000); {remedy} (now triplet)"
    )
    assert found["falling"].text == (
        "mAP has fallen from 0.0120 after step 0 to 0.0098, 0.0084 and 0.0084 (step 120); "
        f"{remedy} (now triplet)"
    )
    assert "the loss has not moved for 60 steps (0.1000, now 0.1000), nor has mAP" in (
        found["flat"].text
    )
    assert found["worse"].text.startswith(
        "mAP is 0.0079 after step 240, below the 0.0120 after step 0; "
    )


def test_each_topic_is_told_once_also_by_workers_that_start_anew() -> None:
    events = history(evaluations={0: 0.5, 10: 0.4, 20: 0.39, 30: 0.38, 40: 0.2})
    first = noticed(events)
    assert [notice.topic for notice in first] == ["falling"]
    assert Judge(config(), [*events[:3], *first]).after(events[3]) == []
    assert [notice.topic for notice in Judge(config(), events[:3]).after(events[3])] == ["falling"]


def noisy(seed: int, noise: float) -> list[HistoryEvent]:
    """A curve that rises from .05 to .6 and stays there, with a relative noise."""
    rng = random.Random(seed)
    scores = {t: (0.6 - 0.55 * 0.97**t) * (1 + rng.gauss(0, noise)) for t in range(0, 241, 10)}
    losses = [(0.4 + 0.5 * 0.98**t) * (1 + rng.gauss(0, noise)) for t in range(240)]
    return history(losses, scores)


@pytest.mark.parametrize("seed", range(50))
def test_a_noisy_curve_that_rises_is_no_alarm(seed: int) -> None:
    assert topics(noisy(seed, 0.03)) == []


@pytest.mark.parametrize("seed", range(20))
def test_fine_tuning_that_starts_high_is_no_alarm(seed: int) -> None:
    rng = random.Random(seed)
    # It loses a little while the learning rate rises, and stays within the noise of its start.
    scores = {t: 0.93 + 0.0002 * t / 4 - 0.01 * (0 < t < 60) for t in range(0, 241, 20)}
    losses = [0.05 * (1 + rng.gauss(0, 0.1)) for _ in range(240)]
    pairs = [(0.97, 0.955)] * 240
    assert topics(history(losses, scores, pairs)) == []


@pytest.mark.parametrize(
    ("first", "last", "num_queries", "is_told"),
    [
        (0.012, 0.0079, 4094, True),
        (0.93, 0.925, 4094, False),
        (0.93, 0.90, 4094, True),
        (0.5, 0.47, 40, False),
        (0.5, 0.4, 40, True),
        (0.0, 0.0, 40, False),
        (1.0, 0.9, 40, True),
    ],
)
def test_an_end_below_the_start_is_told_where_it_is_no_accident(
    first: float, last: float, num_queries: int, is_told: bool
) -> None:
    events = history(evaluations={0: first, 240: last}, num_queries=num_queries)
    assert topics(events) == [(240, "worse")] * is_told


def test_an_end_is_judged_at_the_end_alone() -> None:
    assert topics(history(evaluations={0: 0.5, 120: 0.3})) == []


def test_a_single_lucky_evaluation_is_nothing_to_fall_from() -> None:
    assert topics(history(evaluations={0: 0.1, 10: 0.3, 20: 0.4, 30: 0.3, 40: 0.31, 50: 0.3})) == []


def test_a_flat_loss_is_told_only_where_nothing_is_learnt() -> None:
    flat = [0.98 + 0.001 * (step % 3) for step in range(240)]
    assert topics(history(flat)) == [(120, "flat")]
    assert topics(history(flat, {0: 0.1, 100: 0.1, 240: 0.1})) == [(120, "flat")]
    assert topics(history(flat, {0: 0.1, 100: 0.2, 240: 0.2})) == []
    slow = [1 - 0.0002 * step for step in range(240)]
    assert topics(history(slow)) == []
    rising = [0.5 + 0.0002 * step for step in range(240)]
    assert topics(history(rising)) == []
    converged = [0.1 + 0.9 * 0.9**step for step in range(240)]
    assert topics(history(converged)) == []


def test_a_short_training_can_be_one_point_too() -> None:
    short = config(training__steps=12)
    assert topics(history([0.1] * 12, similarities=[(0.999, 0.999)] * 12), short) == [
        (12, "one_point")
    ]
    assert topics(history([0.1] * 12, similarities=[(0.999, 0.97)] * 12), short) == []


def summary(num_images: int, num_classes: int) -> PlanSummary:
    return PlanSummary(
        num_images=num_images,
        num_classes=num_classes,
        num_lone_classes=0,
        num_capped_classes=0,
        steps_per_epoch=1,
    )


def of_batch(labels: list[int], found: PlanSummary, **options: object) -> list[str]:
    return [notice.text for notice in Judge(config(**options)).of_batch(labels, found)]


def test_a_batch_with_little_to_rank_is_told_where_the_data_have_more() -> None:
    labels = [image // 4 for image in range(16)]
    assert of_batch(labels, summary(1000, 100)) == [
        "a batch of 16 images is small for a loss that ranks it: 12 negatives for a query; use "
        "--training.batch-size 256 or more; what it takes of memory depends on "
        "--training.chunk-size alone"
    ]
    assert of_batch(labels, summary(30, 7)) == []  # no batch twice as large could be filled
    assert of_batch(labels, summary(1000, 100), loss__kind="triplet") == []
    assert of_batch([image // 4 for image in range(64)], summary(1000, 100)) == []


def test_single_positives_are_told_where_the_data_have_more() -> None:
    labels = [image // 2 for image in range(128)]
    assert of_batch(labels, summary(1000, 100), data__group_size=2) == [
        "a query has 1.0 positives in a batch, of 9 in the data; use --data.group-size 4 or more "
        "(now 2)"
    ]
    assert of_batch(labels, summary(1000, 400), data__group_size=2) == []
