"""Query expansion, database augmentation, scale pooling: published figures, limits, refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from apdist.retrieval import ranking
from apdist.retrieval.expansion import augment_database, expand_queries, pool_scales

# From the published test code of deep-image-retrieval.
DATABASE = [
    [0.0, 0.646740236476, 0.716255478649, 0.262116683612],
    [0.487078619196, 0.778327905734, 0.367415833906, -0.148208282063],
    [0.794236762103, 0.498500723878, -0.168337103757, -0.303887501415],
    [0.739687152227, -0.165119905133, -0.650139963843, 0.05400334409],
    [-0.050814423386, -0.623419154231, -0.324489772041, 0.709558200823],
    [-0.416369197537, -0.399320666508, 0.174354355143, 0.797985122345],
]
QUERIES = [
    [0.091527387453, 0.703726409668, 0.680751629591, 0.181573942212],
    [0.62948053212, -0.323707877012, -0.676446401313, 0.203439760601],
]
EXPANDED = {
    (1, 0): [
        [0.0458749166, 0.6768743928, 0.7002011792, 0.2223844801],
        [0.6898046324, -0.2462778463, -0.6683516054, 0.1297032118],
    ],
    (2, 0): [
        [0.2037162076, 0.7495082107, 0.6212198736, 0.1040337324],
        [0.5117631817, -0.4317560762, -0.6409207625, 0.375374097],
    ],
    (2, 3): [
        [0.1475426165, 0.7275348383, 0.6535662052, 0.147565073],
        [0.6587033686, -0.2891291653, -0.6700443036, 0.1831797728],
    ],
    (3, 1): [
        [0.2490632452, 0.7596804109, 0.5942677198, 0.0877442328],
        [0.6827667903, -0.2604637543, -0.6475432759, 0.2160459412],
    ],
}
AUGMENTED = {
    (1, 0): [
        [0.2620299555, 0.7666329976, 0.582974359, 0.0612784307],
        [0.6833236563, 0.6809308781, 0.1061684014, -0.2411020333],
        [0.6833236563, 0.6809308781, 0.1061684014, -0.2411020333],
        [0.8579706511, 0.1864701081, -0.4577993055, -0.1397678667],
        [-0.2476247428, -0.5420902484, -0.0795773703, 0.7990541856],
        [-0.2476247428, -0.5420902484, -0.0795773703, 0.7990541856],
    ],
    (2, 3): [
        [0.1446033605, 0.7244514442, 0.6556117555, 0.1563112256],
        [0.516585846, 0.771854074, 0.3535246298, -0.1113583777],
        [0.7944890204, 0.5471816591, -0.1005899966, -0.2434359893],
        [0.7917183264, -0.0678485879, -0.6070303386, 0.0096347746],
        [-0.1602054323, -0.5819097565, -0.1864688317, 0.7752061852],
        [-0.314296679, -0.4956361674, 0.0148645932, 0.8095316121],
    ],
}


def tensor(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Similarities are float32, so that the weights carry its rounding.
TOLERANCE = {"atol": 1e-6, "rtol": 0.0}


@pytest.mark.parametrize(("k", "alpha"), list(EXPANDED))
def test_expanded_queries_are_the_published_ones(k: int, alpha: int) -> None:
    expanded = expand_queries(tensor(QUERIES), tensor(DATABASE), k=k, alpha=alpha)
    torch.testing.assert_close(expanded, tensor(EXPANDED[k, alpha]), **TOLERANCE)


@pytest.mark.parametrize(("k", "alpha"), list(AUGMENTED))
def test_augmented_databases_are_the_published_ones(k: int, alpha: int) -> None:
    augmented = augment_database(tensor(DATABASE), k=k, alpha=alpha)
    torch.testing.assert_close(augmented, tensor(AUGMENTED[k, alpha]), **TOLERANCE)


def test_no_neighbours_change_nothing() -> None:
    database = tensor(DATABASE)
    assert torch.equal(expand_queries(tensor(QUERIES), database, k=0, alpha=3), tensor(QUERIES))
    assert torch.equal(augment_database(database, k=0, alpha=3), database)


def test_a_neighbour_that_points_away_gets_no_weight() -> None:
    query = tensor([[1.0, 0.0]])
    expanded = expand_queries(query, tensor([[-0.6, 0.8]]), k=1, alpha=2.5)
    torch.testing.assert_close(expanded, query)


def test_expansion_does_not_depend_on_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    database = torch.nn.functional.normalize(torch.randn(40, 8, generator=generator), dim=1)
    whole = augment_database(database, k=4, alpha=2)
    monkeypatch.setattr(ranking, "SCORES_PER_TILE", 100)
    torch.testing.assert_close(augment_database(database, k=4, alpha=2), whole)


@pytest.mark.parametrize("k", [1, 3, 9])
def test_neighbours_may_come_part_by_part(k: int) -> None:
    generator = torch.Generator().manual_seed(6)
    queries, database = (
        F.normalize(torch.randn(n, 8, generator=generator, dtype=torch.float64), dim=1)
        for n in (5, 11)
    )
    whole = expand_queries(queries, database, k=k, alpha=2)
    parts = [database[2:3], database[3:9], database[9:]]
    found = expand_queries(queries, database[:2], k=k, alpha=2, more=parts)
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-6)  # scores are float32
    with pytest.raises(ValueError, match="k"):
        expand_queries(queries, database[:2], k=12, alpha=2, more=parts)


@pytest.mark.parametrize(("k", "alpha"), [(1, 0), (3, 2), (9, 1)])
@pytest.mark.parametrize("num_first", [10, 2], ids=["at once", "part by part"])
def test_a_query_s_own_picture_is_no_neighbour(k: int, alpha: float, num_first: int) -> None:
    generator = torch.Generator().manual_seed(7)
    database = F.normalize(torch.randn(10, 8, generator=generator, dtype=torch.float64), dim=1)
    queries, own = torch.cat((database[:2], -database[:1])), [0, 1, -1]
    first, rest = database[:num_first], database[num_first:]
    more = rest.split(3) if len(rest) else ()
    found = expand_queries(queries, first, k=k, alpha=alpha, more=more, own=own)
    for query, row, expanded in zip(queries, own, found, strict=True):
        others = database[[other for other in range(10) if other != row]]
        expected = expand_queries(query[None], others, k=k, alpha=alpha)[0]
        torch.testing.assert_close(expanded, expected, rtol=0, atol=1e-6)  # scores are float32
    with pytest.raises(ValueError, match="k must be from 0 to 9, got 10"):
        expand_queries(queries, first, k=10, alpha=alpha, more=more, own=own)


def test_of_many_exact_copies_of_a_query_all_but_its_own_picture_are_neighbours() -> None:
    database = torch.tensor([[1.0, 0.0]] * 4 + [[0.0, 1.0]])
    found = expand_queries(database[3:4], database, k=4, alpha=0, own=[3])
    torch.testing.assert_close(found, F.normalize(torch.tensor([[4.0, 1.0]]), dim=1))
    found = expand_queries(database[3:4], database, k=2, alpha=0, own=[3])
    torch.testing.assert_close(found, database[:1])


def test_images_with_many_exact_copies_are_augmented_by_copies() -> None:
    database = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 1.0]])
    augmented = augment_database(database, k=2, alpha=1)
    torch.testing.assert_close(augmented[:5], database[:5])


def test_scales_pool_by_the_published_signed_power_mean() -> None:
    scales = tensor([[[0.6, -0.8, 0.0]], [[0.0, -0.6, 0.8]], [[0.28, 0.0, 0.96]]])
    expected = tensor([[0.3964801951, -0.5755753307, 0.7152038126]])
    torch.testing.assert_close(pool_scales(scales, p=3), expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(pool_scales(scales[:1]), scales[0], atol=1e-9, rtol=0)


def test_even_powers_keep_the_sign_of_every_component() -> None:
    scales = tensor([[[0.6, -0.8]], [[0.28, -0.96]]])
    squared = tensor([[(0.36 + 0.0784) ** 0.5, -((0.64 + 0.9216) ** 0.5)]])
    expected = torch.nn.functional.normalize(squared, dim=1)
    torch.testing.assert_close(pool_scales(scales, p=2), expected)


def test_scales_pool_to_their_direction_of_mean_with_p_1() -> None:
    scales = tensor([[[0.6, -0.8, 0.0]], [[0.0, -0.6, 0.8]], [[0.28, 0.0, 0.96]]])
    mean = tensor([[0.2933333333, -0.4666666667, 0.5866666667]])
    expected = torch.nn.functional.normalize(mean, dim=1)
    torch.testing.assert_close(pool_scales(scales, p=1), expected, atol=1e-9, rtol=0)


def test_impossible_requests_are_refused() -> None:
    queries, database = tensor(QUERIES), tensor(DATABASE)
    with pytest.raises(ValueError, match="must be from 0 to 6, got 7"):
        expand_queries(queries, database, k=7, alpha=1)
    with pytest.raises(ValueError, match="k must be from 0 to 5, got 6"):
        augment_database(database, k=6, alpha=1)
    with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
        expand_queries(queries, database, k=1, alpha=-1)
    for own in ([0], [0, 6], [-2, 0]):
        with pytest.raises(ValueError, match="a row of the database for each of 2 queries, from 0"):
            expand_queries(queries, database, k=1, alpha=1, own=own)
    unit = torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="queries have 3 dimensions, the database 4"):
        expand_queries(unit, database, k=1, alpha=1)
    with pytest.raises(ValueError, match="database: .* not of unit length"):
        expand_queries(queries, 2 * database, k=1, alpha=1)
    with pytest.raises(ValueError, match="more: .* not of unit length"):
        expand_queries(queries, database, k=1, alpha=1, more=[2 * database])
    with pytest.raises(ValueError, match="queries have 4 dimensions, more 3"):
        expand_queries(queries, database, k=1, alpha=1, more=[unit])
    with pytest.raises(ValueError, match=r"\(s, n, d\), s >= 1"):
        pool_scales(database)
    with pytest.raises(ValueError, match="p must be from 0.01 to 100, got 0"):
        pool_scales(database[None], p=0)
