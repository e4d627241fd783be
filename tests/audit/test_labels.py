"""Votes of neighbours by their slow definition; flipped labels and halved classes are found."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

from apdist.audit.candidates import neighbours
from apdist.audit.labels import (
    SIZE_POWER,
    TEMPERATURE,
    classes_that_are_one,
    suspicious_labels,
    vote,
)

Near = tuple[NDArray[np.float32], NDArray[np.int64]]


def classes(
    num_classes: int = 6, size: int = 12, spread: float = 0.3
) -> tuple[NDArray[np.int64], Near]:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(num_classes, 16, generator=generator)
    labels = torch.arange(num_classes).repeat_interleave(size)
    noise = spread * torch.randn(len(labels), 16, generator=generator)
    scores, rows = neighbours(normalize(centres[labels] + noise, dim=1), 15)
    return labels.numpy().copy(), (scores.numpy(), rows.numpy())


def test_votes_are_those_of_the_slow_definition() -> None:
    labels, (scores, rows) = classes(spread=1.2)
    scores[3, 4], rows[3, 4] = np.nan, -1
    found = vote(scores, rows, labels)
    sizes = np.bincount(labels)
    for row in range(len(labels)):
        votes: dict[int, float] = {}
        for score, other in zip(scores[row].tolist(), rows[row].tolist(), strict=True):
            if other >= 0:
                label = int(labels[other])
                others = sizes[label] - (label == labels[row])
                weight = math.exp((score - np.nanmax(scores[row])) / TEMPERATURE)
                votes[label] = votes.get(label, 0) + weight / others**SIZE_POWER
        total = sum(votes.values())
        own = votes.pop(int(labels[row]), 0.0)
        assert found.own[row] == pytest.approx(own / total)
        assert found.best_votes[row] == pytest.approx(max(votes.values(), default=0) / total)
        if votes:
            assert votes[int(found.best[row])] == max(votes.values())


def test_flipped_labels_are_found_with_their_class_and_no_others() -> None:
    labels, (scores, rows) = classes()
    right = labels.copy()
    labels[[5, 30, 61]] = [3, 0, 1]
    found = suspicious_labels(vote(scores, rows, labels), rows, labels, [])
    assert {(f.row, f.label, f.suggested) for f in found} == {(5, 3, 0), (30, 0, 2), (61, 1, 5)}
    for each in found:
        assert each.confidence > 0.95
        assert {int(right[row]) for row in each.witnesses} == {each.suggested}


def test_classes_of_two_and_images_without_neighbours_are_not_judged() -> None:
    labels, (scores, rows) = classes()
    labels[5], labels[30] = 77, 77
    scores[40], rows[40] = np.nan, -1
    assert suspicious_labels(vote(scores, rows, labels), rows, labels, []) == []
    assert vote(scores, rows, labels).best[40] == -1


def test_a_halved_class_is_one_and_its_labels_are_not_doubted() -> None:
    labels, (scores, rows) = classes(size=20)
    labels[:20:2] = 9
    (pair,) = classes_that_are_one(scores, rows, labels)
    assert {pair.first, pair.second} == {0, 9}
    assert pair.mixing == pytest.approx(1, abs=0.25)
    assert all((labels[a], labels[b]) == (0, 9) for a, b in pair.examples)
    labels[0] = 0
    votes = vote(scores, rows, labels)
    votes.own[0], votes.best[0], votes.best_votes[0] = 0, 9, 1
    assert 0 in {found.row for found in suspicious_labels(votes, rows, labels, [])}
    assert 0 not in {found.row for found in suspicious_labels(votes, rows, labels, [pair])}


def test_classes_apart_are_not_one() -> None:
    labels, (scores, rows) = classes()
    assert classes_that_are_one(scores, rows, labels) == []
