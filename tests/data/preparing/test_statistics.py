"""Figures of a catalogue against their slow definitions."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.plan.batch_sampler import Plan
from apdist.data.preparing.statistics import bars, histogram, images_per_epoch, split_statistics


def test_figures_of_a_split(shards: Path) -> None:
    figures = split_statistics(read_catalogue(str(shards)).select("test"))
    assert (figures.num_images, figures.num_lone) == (24, 0)
    assert figures.class_sizes.tolist() == [6] * 4
    assert figures.num_shards == sum(p.name.startswith("test") for p in shards.glob("*.tar"))


def test_each_class_is_in_the_bin_that_holds_its_size() -> None:
    sizes = np.random.default_rng(0).integers(1, 300, 500)
    rows = histogram(sizes)
    assert [first for first, _, _ in rows] == [1 << i for i in range(len(rows))]
    for first, last, count in rows:
        assert count == sum(first <= size <= last for size in sizes.tolist())
    assert sum(count for _, _, count in rows) == len(sizes)


def test_bars_are_as_long_as_their_classes_are_many_and_never_vanish() -> None:
    lines = bars([(1, 1, 1000), (2, 3, 0), (4, 7, 500), (8, 15, 1)], width=10)
    assert lines == [
        "   1  ########## 1000",
        " 2-3  0",
        " 4-7  ##### 500",
        "8-15  # 1",
    ]
    assert bars([]) == []


def test_an_epoch_uses_what_the_plan_deals() -> None:
    labels = np.repeat(np.arange(30), np.random.default_rng(1).integers(1, 12, 30))
    steps, used = images_per_epoch(labels, 16, 4)
    plan = Plan(labels, batch_size=16, group_size=4, seed=3)
    counts = Counter(row for step in range(steps) for row in plan.rows(step).tolist())
    assert used == len(counts) == sum(counts.values())
    assert plan.epoch_of(steps)[0] == 1
    with pytest.raises(ValueError, match="cannot be filled"):
        images_per_epoch(labels, 1000, 4)
