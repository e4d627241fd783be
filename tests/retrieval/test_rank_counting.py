"""Counts on the threads of the CPU against plain torch."""

from __future__ import annotations

import pytest
import torch

from apdist.retrieval import rank_counting, ranks, torch_counting
from tests.retrieval.test_ranks import images


@pytest.mark.parametrize("num_classes", [1, 3, 150])
@pytest.mark.parametrize("kind", ["tied", "apart", "alike"])
@pytest.mark.parametrize("images_per_tile", [64, 301])
def test_compiled_loops_count_what_plain_torch_counts(
    kind: str, num_classes: int, images_per_tile: int
) -> None:
    descriptors, labels = images(3, 301, kind, num_classes)
    labelled = ranks.group_rows(labels, labels)
    tile = slice(20, 110)
    positives = ranks.positives_of(
        descriptors[tile], descriptors, labelled, tile, torch.arange(20, 110)
    )
    tiles = [(descriptors[tile], positives)]
    parts = [
        (left, descriptors[left : left + images_per_tile])
        for left in range(0, 301, images_per_tile)
    ]
    real = torch.arange(positives.rows.shape[1]) < positives.counts[:, None]
    compiled = rank_counting.negatives_before(tiles, parts)[0][real]
    assert compiled.tolist() == torch_counting.negatives_before(tiles, parts)[0][real].tolist()
    arguments = (descriptors[tile], descriptors, positives.rows)
    scores = rank_counting.exact_scores(*arguments)
    assert scores.tolist() == torch_counting.exact_scores(*arguments).tolist()


def test_scores_that_float32_products_confuse_are_multiplied_in_float64() -> None:
    descriptors, labels = images(0, 200, "alike", 20)
    tile = slice(0, 200)
    positives = ranks.positives_of(
        descriptors, descriptors, ranks.group_rows(labels, labels), tile, torch.arange(200)
    )
    counter = rank_counting.Counter(descriptors, positives)
    counter.add(descriptors, 0, 1.0001, torch.empty(200 * 200))
    assert counter.is_exact
