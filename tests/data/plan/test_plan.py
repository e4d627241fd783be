import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apdist.data.plan.plan import Plan

class_sizes = st.lists(st.integers(1, 20), min_size=1, max_size=40)
weights = st.sampled_from(["images", "classes", "sqrt"])


def stored_in_runs(sizes: list[int]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(sizes)), sizes)


def scattered(sizes: list[int], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(stored_in_runs(sizes))


def make_plan(labels: NDArray[np.int64], **options: Any) -> Plan | None:
    """None where the data cannot fill a batch."""
    try:
        return Plan(labels, **options)
    except ValueError:
        return None


def batches_of_epoch(plan: Plan, epoch: int = 0) -> list[NDArray[np.int64]]:
    steps = plan.summary.steps_per_epoch
    return [plan.rows(epoch * steps + position) for position in range(steps)]


def counts_over(plan: Plan, labels: NDArray[np.int64], num_epochs: int) -> NDArray[np.int64]:
    """How often each image is used."""
    steps = range(num_epochs * plan.summary.steps_per_epoch)
    return np.bincount(np.concatenate([plan.rows(step) for step in steps]), minlength=len(labels))


@settings(max_examples=300, deadline=None)
@given(
    class_sizes,
    st.integers(2, 15),
    st.integers(2, 9),
    st.booleans(),
    st.integers(0, 99),
    weights,
    st.integers(0, 8),
    st.integers(0, 3),
)
def test_a_batch_is_what_was_asked_for(
    sizes: list[int],
    half_batch: int,
    group_size: int,
    mixed: bool,
    seed: int,
    class_weights: str,
    num_classes: int,
    most_groups: int,
) -> None:
    labels = scattered(sizes, seed) if mixed else stored_in_runs(sizes)
    plan = make_plan(
        labels,
        batch_size=2 * half_batch,
        group_size=group_size,
        seed=seed,
        class_weights=class_weights,
        classes_per_batch=num_classes,
        max_groups_per_class=most_groups,
    )
    if plan is None:
        return
    for epoch in range(2):
        batches = batches_of_epoch(plan, epoch)
        for rows in batches:
            present, counts = np.unique(labels[rows], return_counts=True)
            assert len(rows) == 2 * half_batch
            assert counts.min() >= 2
            if num_classes:
                assert len(counts) == num_classes
                assert counts.max() <= group_size
            elif most_groups:
                whole = np.minimum(np.array(sizes)[present], group_size)
                assert (counts <= most_groups * whole).all()
        seen = np.concatenate(batches)
        assert len(np.unique(seen)) == len(seen)


@settings(max_examples=60, deadline=None)
@given(class_sizes, st.integers(2, 9), st.integers(0, 99))
def test_an_epoch_wastes_less_than_a_group_a_batch(
    sizes: list[int], group_size: int, seed: int
) -> None:
    labels = stored_in_runs(sizes)
    plan = make_plan(labels, batch_size=16, group_size=group_size, seed=seed)
    usable = sum(size for size in sizes if size > 1)
    if plan is None:
        assert usable < 16
    else:
        # A batch is given 16 to 16 + K images: with one batch more, some would get too few.
        assert plan.summary.steps_per_epoch >= usable // (16 + max(group_size, 3)) - 1


@settings(max_examples=60, deadline=None)
@given(class_sizes, st.integers(2, 9), st.booleans())
def test_classes_of_equal_groups_are_used_whole(
    sizes: list[int], group_size: int, mixed: bool
) -> None:
    sizes = [size * group_size for size in sizes]
    labels = scattered(sizes, 1) if mixed else stored_in_runs(sizes)
    num_groups = 2 if len(labels) >= 4 else 1
    batch_size = 2 * num_groups * group_size
    plan = make_plan(labels, batch_size=batch_size, group_size=group_size, seed=0)
    assert (plan.summary.steps_per_epoch if plan else 0) == len(labels) // batch_size


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


@pytest.mark.parametrize("class_weights", ["images", "classes", "sqrt"])
@pytest.mark.parametrize("num_classes", [0, 16])
def test_classes_come_up_as_often_as_their_weight_says(
    class_weights: str, num_classes: int
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
    rows = np.concatenate([plan.rows(step) for step in range(20_000)])
    found = np.bincount(labels[rows], minlength=60) / len(rows)
    asked = {"images": sizes, "classes": np.ones(60), "sqrt": np.sqrt(sizes)}[class_weights]
    np.testing.assert_allclose(found, asked / asked.sum(), rtol=0.05)


def test_small_classes_give_smaller_groups_but_come_up_as_often() -> None:
    sizes = [2, 3] + [20] * 20
    labels = stored_in_runs(sizes)
    plan = Plan(labels, batch_size=16, group_size=4, seed=0, class_weights="classes")
    rows = np.concatenate([plan.rows(step) for step in range(4000)])
    found = np.bincount(labels[rows]) / len(rows)
    np.testing.assert_allclose(found[0] / found[2:].mean(), 2 / 4, rtol=0.1)
    np.testing.assert_allclose(found[1] / found[2:].mean(), 3 / 4, rtol=0.1)


def test_a_class_that_the_cap_holds_back_is_counted() -> None:
    labels = stored_in_runs([400] + [8] * 30)
    plan = Plan(labels, batch_size=32, group_size=4, seed=0, max_groups_per_class=1)
    assert plan.summary.num_capped_classes == 1
    assert all(np.bincount(labels[rows])[0] <= 4 for rows in batches_of_epoch(plan))
    free = Plan(labels, batch_size=32, group_size=4, seed=0)
    assert free.summary.num_capped_classes == 0
    assert max(np.bincount(labels[rows])[0] for rows in batches_of_epoch(free)) > 4


def test_groups_are_nearly_equal_parts_of_a_class_or_exact_with_a_cap() -> None:
    labels = stored_in_runs([9] * 64)
    for demand, expected in (({}, {4, 5}), ({"max_groups_per_class": 9}, {8})):
        plan = Plan(labels, batch_size=64, group_size=8, seed=0, **demand)
        counts = np.unique(labels[plan.rows(0)], return_counts=True)[1]
        # The groups of a class go to several batches; one may be cut short.
        assert counts.max() == max(expected)
        assert np.mean(np.isin(counts, list(expected))) > 0.9


def test_groups_are_neighbours_in_the_shards() -> None:
    labels = stored_in_runs([24] * 20)
    rows = Plan(labels, batch_size=160, group_size=4, seed=0).rows(3).reshape(-1, 4)
    in_one_read = (np.diff(rows) == 1).all(axis=1)
    assert in_one_read.mean() > 0.8  # one rotated window in six may wrap around
    wrapped = rows[~in_one_read]
    assert ((np.diff(wrapped) - 1) % 24 == 0).all()


def test_groups_are_composed_anew_each_epoch() -> None:
    plan = Plan(stored_in_runs([12] * 20), batch_size=40, group_size=4, seed=0)

    def groups(epoch: int) -> set[frozenset[int]]:
        rows = np.concatenate(batches_of_epoch(plan, epoch))
        return {frozenset(group.tolist()) for group in rows.reshape(-1, 4)}

    assert len(groups(0) & groups(1)) < 0.6 * len(groups(0))


def test_classes_meet_other_classes_in_each_epoch() -> None:
    labels = stored_in_runs([4] * 200)
    plan = Plan(labels, batch_size=40, group_size=4, seed=0)

    def partners(epoch: int) -> set[int]:
        (rows,) = [rows for rows in batches_of_epoch(plan, epoch) if 0 in labels[rows]]
        return set(labels[rows].tolist()) - {0}

    seen = set().union(*(partners(epoch) for epoch in range(100)))
    assert len(seen) > 0.95 * 199


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**12), st.integers(0, 99), weights)
def test_a_step_is_the_same_when_asked_first_or_last(
    step: int, seed: int, class_weights: str
) -> None:
    labels = stored_in_runs([5, 7, 9, 11])
    options: dict[str, Any] = {"batch_size": 8, "group_size": 3, "class_weights": class_weights}
    late = Plan(labels, **options, seed=seed).rows(step)
    plan = Plan(labels, **options, seed=seed)
    in_order = [plan.rows(s) for s in range(max(0, step - 20), step + 1)]
    assert np.array_equal(late, in_order[-1])
    assert np.array_equal(late, plan.rows(step))


def test_another_seed_gives_other_batches() -> None:
    labels = stored_in_runs([12] * 20)
    one, other = (Plan(labels, batch_size=40, group_size=4, seed=seed) for seed in (0, 1))
    assert set(one.rows(0).tolist()) != set(other.rows(0).tolist())


def test_batches_are_these_on_every_machine() -> None:
    # Figures of a run: another machine, Python or numpy must find the same.
    plan = Plan(stored_in_runs([7] * 9), batch_size=12, group_size=4, seed=5)
    assert plan.rows(8).tolist() == [17, 18, 19, 24, 25, 26, 29, 30, 31, 53, 54, 55]
    drawn = Plan(
        stored_in_runs(list(range(2, 30))),
        batch_size=32,
        group_size=8,
        seed=5,
        class_weights="sqrt",
        max_groups_per_class=2,
    )
    assert drawn.rows(1000)[::4].tolist() == [111, 115, 17, 15, 119, 68, 72, 49]


def test_batches_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import numpy as np; from apdist.data.plan.plan import Plan;"
        "print(Plan(np.repeat(np.arange(9), 7), batch_size=12, group_size=4, seed=5).rows(8))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


def test_the_names_of_classes_do_not_matter_but_their_images_do() -> None:
    labels = scattered([5, 7, 9, 11], 0)
    plan, renamed = (
        Plan(names, batch_size=8, group_size=3, seed=1) for names in (labels, labels * 1000 - 7)
    )
    assert np.array_equal(plan.rows(5), renamed.rows(5))


def test_classes_with_one_image_are_left_out_and_counted() -> None:
    plan = Plan(stored_in_runs([1, 4, 1, 6]), batch_size=8, group_size=4, seed=0)
    assert dataclasses.asdict(plan.summary) == {
        "num_images": 10,
        "num_classes": 2,
        "num_lone_classes": 2,
        "num_capped_classes": 0,
        "steps_per_epoch": 1,
    }
    assert not {0, 5} & set(np.concatenate([plan.rows(step) for step in range(50)]).tolist())


@pytest.mark.parametrize(
    ("options", "largest", "advice"),
    [
        ({}, 10, "an epoch without repetition"),
        ({"class_weights": "classes"}, 8, "an epoch without repetition"),
        ({"max_groups_per_class": 1}, 8, "1 groups of each class .* or a higher cap"),
        ({"classes_per_batch": 2}, 8, "each of 2 classes .* or a larger --data.group-size"),
    ],
)
def test_a_batch_that_cannot_be_filled_names_the_largest_that_can(
    options: dict[str, Any], largest: int, advice: str
) -> None:
    labels = stored_in_runs([5, 5])
    with pytest.raises(ValueError, match=advice) as refusal:
        Plan(labels, batch_size=largest + 2, group_size=4, seed=0, **options)
    assert f"--training.batch-size {largest} or less" in str(refusal.value)
    plan = Plan(labels, batch_size=largest, group_size=4, seed=0, **options)
    assert len(plan.rows(0)) == largest


def test_more_classes_than_pairs_of_images_in_a_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="classes_per_batch 3 needs .* at least 6, .* got 4"):
        Plan(stored_in_runs([5] * 9), batch_size=4, group_size=2, seed=0, classes_per_batch=3)


def test_more_classes_a_batch_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match="classes_per_batch 4 exceeds the 2 classes"):
        Plan(stored_in_runs([5, 5, 1]), batch_size=8, group_size=2, seed=0, classes_per_batch=4)


@pytest.mark.parametrize("labels", [np.arange(10), np.empty(0, dtype=np.int64)])
def test_data_without_any_pair_is_refused(labels: NDArray[np.int64]) -> None:
    for class_weights in ("images", "classes", "sqrt"):
        with pytest.raises(ValueError, match="no class has two images"):
            Plan(labels, batch_size=4, group_size=2, seed=0, class_weights=class_weights)
