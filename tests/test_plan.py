import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apdist.data.plan import Plan

class_sizes = st.lists(st.integers(1, 20), min_size=1, max_size=40)


def stored_in_runs(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


def make_plan(labels: np.ndarray, batch_size: int, group_size: int, seed: int = 0) -> Plan | None:
    try:
        return Plan(labels, batch_size=batch_size, group_size=group_size, seed=seed)
    except ValueError:
        return None


@settings(max_examples=150, deadline=None)
@given(class_sizes, st.integers(1, 15), st.integers(2, 9), st.booleans(), st.integers(0, 99))
def test_each_image_has_a_positive_and_comes_once_an_epoch(
    sizes: list[int], half_batch: int, group_size: int, scattered: bool, seed: int
) -> None:
    labels = stored_in_runs(sizes)
    if scattered:
        np.random.default_rng(seed).shuffle(labels)
    plan = make_plan(labels, 2 * half_batch, group_size, seed)
    if plan is None:
        return
    steps = plan.summary.steps_per_epoch
    for epoch in range(2):
        batches = [plan.rows(epoch * steps + position) for position in range(steps)]
        for rows in batches:
            assert len(rows) == 2 * half_batch
            assert np.unique(labels[rows], return_counts=True)[1].min() >= 2
        seen = np.concatenate(batches)
        assert len(np.unique(seen)) == len(seen)


def test_images_are_used_equally_often_over_many_epochs() -> None:
    labels = stored_in_runs([12, 9, 17, 30, 8])
    plan = Plan(labels, batch_size=8, group_size=8, seed=3)
    steps = plan.summary.steps_per_epoch
    rows = np.concatenate([plan.rows(step) for step in range(600 * steps)])
    counts = np.bincount(rows, minlength=len(labels)).astype(float)
    for label in range(5):  # inside a class, where windows rotate
        own = counts[labels == label]
        assert own.min() > 0.8 * own.mean()
        assert own.max() < 1.2 * own.mean()


def test_groups_are_composed_anew_each_epoch() -> None:
    plan = Plan(stored_in_runs([12] * 20), batch_size=40, group_size=4, seed=0)
    steps = plan.summary.steps_per_epoch

    def groups(epoch: int) -> set[frozenset[int]]:
        rows = np.concatenate([plan.rows(epoch * steps + p) for p in range(steps)])
        return {frozenset(group.tolist()) for group in rows.reshape(-1, 4)}

    assert len(groups(0) & groups(1)) < 0.6 * len(groups(0))


def test_a_step_is_the_same_when_asked_first_or_last() -> None:
    labels = stored_in_runs([5, 7, 9, 11])
    late = Plan(labels, batch_size=8, group_size=3, seed=1).rows(50)
    plan = Plan(labels, batch_size=8, group_size=3, seed=1)
    in_order = [plan.rows(step) for step in range(51)]
    assert np.array_equal(late, in_order[50])


def test_batches_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "import numpy as np; from apdist.data.plan import Plan;"
        "print(Plan(np.repeat(np.arange(9), 7), batch_size=12, group_size=4, seed=5).rows(8).sum(),"
        "Plan(np.repeat(np.arange(9), 7), batch_size=12, group_size=4, seed=5).rows(8)[3])"
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


def test_classes_with_one_image_are_left_out_and_counted() -> None:
    plan = Plan(stored_in_runs([1, 4, 1, 6]), batch_size=8, group_size=4, seed=0)
    assert plan.summary.num_lone_classes == 2
    assert plan.summary.num_classes == 2
    assert not {0, 5} & set(plan.rows(0).tolist())


def test_a_batch_that_cannot_be_filled_names_the_largest_that_can() -> None:
    labels = stored_in_runs([5, 5])
    with pytest.raises(ValueError, match="--training.batch-size 8 or less"):
        Plan(labels, batch_size=10, group_size=4, seed=0)
    assert len(Plan(labels, batch_size=8, group_size=4, seed=0).rows(0)) == 8


def test_data_without_any_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="no class has two images"):
        Plan(np.arange(10), batch_size=4, group_size=2, seed=0)
