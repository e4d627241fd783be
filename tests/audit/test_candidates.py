"""Which pairs are compared."""

import dataclasses

import numpy as np
import torch
from torch.nn.functional import normalize

from apdist.audit.candidates import candidate_pairs, chained, neighbours, thumbnail_neighbours
from tests.audit.faults import photo
from tests.audit.test_correlation import COPIES, ORIGINAL, looks_of


def test_neighbours_are_the_nearest_others_by_the_slow_definition() -> None:
    torch.manual_seed(0)
    descriptors = normalize(torch.randn(30, 5), dim=1)
    scores, rows = neighbours(descriptors, 4)
    for row in range(30):
        own = descriptors @ descriptors[row]
        own[row] = -2
        expected = own.topk(4)
        assert rows[row].tolist() == expected.indices.tolist()
        torch.testing.assert_close(scores[row], expected.values)


def test_of_few_or_equal_images_none_is_its_own_neighbour() -> None:
    equal = normalize(torch.ones(9, 3), dim=1)
    _, rows = neighbours(equal, 3)
    assert not (rows == torch.arange(9)[:, None]).any()
    scores, rows = neighbours(equal[:2], 3)
    assert rows.tolist() == [[1, -1, -1], [0, -1, -1]]
    assert scores[:, 1:].eq(-1).all()


def test_copies_are_candidates_by_what_is_seen_from_far() -> None:
    looks = looks_of([ORIGINAL, *COPIES.values(), *(photo(100 + n) for n in range(20))])
    pairs = candidate_pairs(looks, thumbnail_neighbours(looks), None)
    assert {1, 2, 3} <= {second for first, second in pairs.tolist() if first == 0}
    assert len(pairs) < 40
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) == len(pairs)


def test_neighbours_by_descriptor_are_candidates_and_damaged_images_are_not() -> None:
    looks = dataclasses.replace(
        looks_of([photo(n) for n in range(4)]), damaged={3: "is empty (0 bytes)"}
    )
    near = (torch.ones(4, 2), torch.tensor([[2, -1], [0, -1], [0, 3], [0, 1]]))
    pairs = candidate_pairs(looks, [], near)
    assert pairs.tolist() == [[0, 1], [0, 2]]


def test_a_chain_joins_all_that_are_equal() -> None:
    assert chained([b"x", b"y", b"x", b"", b"x", b""]).tolist() == [[0, 2], [2, 4]]
