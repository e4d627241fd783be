"""The batches of a plan: what was asked for, the same everywhere, and what is refused."""

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apdist.config import Config, DataConfig, TrainingConfig
from apdist.data.plan.batch_sampler import Plan, build_plan
from tests.data.plan.plans import batches_of_epoch, stored_in_runs

class_sizes = st.lists(st.integers(1, 20), min_size=1, max_size=40)


weights = st.sampled_from(["images", "classes", "sqrt"])


def scattered(sizes: list[int], seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(stored_in_runs(sizes))


def make_plan(labels: NDArray[np.int64], **options: Any) -> Plan | None:
    """None where the data cannot fill a batch."""
    try:
        return Plan(labels, **options)
    except ValueError:
        return None


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
        "import numpy as np; from apdist.data.plan.batch_sampler import Plan;"
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


@pytest.mark.parametrize("options", [{"classes_per_batch": 2}, {"max_groups_per_class": 1}])
def test_classes_that_come_up_less_often_than_their_weight_says_are_counted(
    options: dict[str, Any],
) -> None:
    # Four small classes with a group each: four batches, and in them four of the six groups.
    labels = stored_in_runs([24, 4, 4, 4, 4])
    plan = Plan(labels, batch_size=8, group_size=4, seed=0, **options)
    assert (plan.summary.steps_per_epoch, plan.summary.num_capped_classes) == (4, 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group_size": 3},
        {"class_weights": "sqrt"},
        {"classes_per_batch": 2},
        {"max_groups_per_class": 1},
    ],
)
def test_the_plan_of_a_run_is_that_of_its_options(options: dict[str, Any]) -> None:
    labels = stored_in_runs([9, 8, 7, 6, 5, 4])
    data = DataConfig(**{"group_size": 4, **options})
    config = Config(data=data, training=TrainingConfig(batch_size=8, seed=3))
    expected = Plan(labels, **{"batch_size": 8, "group_size": 4, "seed": 3, **options})
    assert np.array_equal(build_plan(labels, config).rows(7), expected.rows(7))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, "batch_size must be an even number of at least 2, got 7"),
        ({"batch_size": 0}, "batch_size must be an even number"),
        ({"batch_size": 4.0}, "batch_size must be an even number"),
        ({"group_size": 1}, "group_size must be a whole number of at least 2, got 1"),
        ({"class_weights": "x"}, "class_weights must be one of images, classes, sqrt, got 'x'"),
        ({"max_groups_per_class": -1}, "whole numbers of at least 0, got 0 and -1"),
        ({"labels": [[1, 1], [2, 2]]}, r"labels must be \(n,\) whole numbers, got int64 of shape"),
        ({"labels": ["a", "a"]}, "labels must be .* number the classes"),
    ],
)
def test_what_is_not_as_described_is_refused(changes: dict[str, Any], message: str) -> None:
    plain = {"labels": [0, 0, 1, 1, 2, 2], "batch_size": 4, "group_size": 2, "seed": 0}
    assert Plan(**plain).summary.num_classes == 3  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        Plan(**{**plain, **changes})
