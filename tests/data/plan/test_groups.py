"""Groups of an epoch."""

import numpy as np

from apdist.data.plan.batch_sampler import Plan
from tests.data.plan.plans import batches_of_epoch, stored_in_runs


def test_small_classes_give_smaller_groups_but_come_up_as_often() -> None:
    sizes = [2, 3] + [20] * 20
    labels = stored_in_runs(sizes)
    plan = Plan(labels, batch_size=16, group_size=4, seed=0, class_weights="classes")
    rows = np.concatenate([plan.rows(step) for step in range(4000)])
    found = np.bincount(labels[rows]) / len(rows)
    np.testing.assert_allclose(found[0] / found[2:].mean(), 2 / 4, rtol=0.1)
    np.testing.assert_allclose(found[1] / found[2:].mean(), 3 / 4, rtol=0.1)


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
