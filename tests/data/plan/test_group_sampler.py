"""Groups dealt to batches: how often images and classes come up, and beside which."""

import numpy as np
import pytest
from numpy.typing import NDArray

from apdist.data.plan.batch_sampler import Plan
from tests.data.plan.plans import batches_of_epoch, stored_in_runs


def counts_over(plan: Plan, labels: NDArray[np.int64], num_epochs: int) -> NDArray[np.int64]:
    """How often each image is used."""
    steps = range(num_epochs * plan.summary.steps_per_epoch)
    return np.bincount(np.concatenate([plan.rows(step) for step in steps]), minlength=len(labels))


def test_images_are_used_equally_often_over_many_epochs() -> None:
    sizes = [12, 9, 17, 30, 8, 2, 3, 40, 25]
    labels = stored_in_runs(sizes)
    plan = Plan(labels, batch_size=64, group_size=8, seed=3)
    counts = counts_over(plan, labels, 3000) / (3000 * plan.summary.steps_per_epoch * 64)
    assert counts.min() * len(labels) > 0.93
    assert counts.max() * len(labels) < 1.07


def test_images_are_used_equally_often_with_a_cap_and_a_number_of_classes() -> None:
    sizes = [12, 9, 17, 30, 8, 9, 11, 20, 25, 16, 15, 31]
    for demand, small in (
        ({"classes_per_batch": 6}, []),
        ({"max_groups_per_class": 2}, [2, 3] * 4),
    ):
        labels = stored_in_runs(sizes + small)
        plan = Plan(labels, batch_size=24, group_size=4, seed=3, **demand)
        assert plan.summary.num_capped_classes == 0
        counts = counts_over(plan, labels, 2000)
        assert counts.min() > 0.93 * counts.mean(), demand
        assert counts.max() < 1.07 * counts.mean(), demand


@pytest.mark.parametrize(
    ("class_weights", "num_classes", "num_steps"),
    [
        ("images", 0, 10_000),
        ("images", 16, 20_000),  # the largest class is in most batches: its number varies more
        ("classes", 0, 10_000),
        ("classes", 16, 10_000),
        ("sqrt", 0, 10_000),  # with 16 classes a batch, the very same plan
    ],
)
def test_classes_come_up_as_often_as_their_weight_says(
    class_weights: str, num_classes: int, num_steps: int
) -> None:
    sizes = np.random.default_rng(0).integers(4, 41, 60)
    labels = stored_in_runs(sizes.tolist())
    plan = Plan(
        labels,
        batch_size=64,
        group_size=4,
        seed=0,
        class_weights=class_weights,
        classes_per_batch=num_classes,
    )
    rows = np.concatenate([plan.rows(step) for step in range(num_steps)])
    found = np.bincount(labels[rows], minlength=60) / len(rows)
    asked = {"images": sizes, "classes": np.ones(60), "sqrt": np.sqrt(sizes)}[class_weights]
    np.testing.assert_allclose(found, asked / asked.sum(), rtol=0.05)


def test_a_class_that_the_cap_holds_back_is_counted() -> None:
    labels = stored_in_runs([400] + [8] * 30)
    plan = Plan(labels, batch_size=32, group_size=4, seed=0, max_groups_per_class=1)
    assert plan.summary.num_capped_classes == 1
    assert all(np.bincount(labels[rows])[0] <= 4 for rows in batches_of_epoch(plan))
    free = Plan(labels, batch_size=32, group_size=4, seed=0)
    assert free.summary.num_capped_classes == 0
    assert max(np.bincount(labels[rows])[0] for rows in batches_of_epoch(free)) > 4


def test_classes_meet_other_classes_in_each_epoch() -> None:
    labels = stored_in_runs([4] * 200)
    plan = Plan(labels, batch_size=40, group_size=4, seed=0)

    def partners(epoch: int) -> set[int]:
        (rows,) = [rows for rows in batches_of_epoch(plan, epoch) if 0 in labels[rows]]
        return set(labels[rows].tolist()) - {0}

    seen = set().union(*(partners(epoch) for epoch in range(100)))
    assert len(seen) > 0.95 * 199
