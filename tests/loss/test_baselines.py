"""The losses to compare with, against loops over plain numbers, published figures and peers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from apdist.loss import baselines
from tests import reference
from tests.places import ROOT
from tests.reference import unit_rows

CASES = json.loads((ROOT / "tests/cases/average_precision.json").read_text())
LOSSES: list[Callable[..., Tensor]] = [
    baselines.BatchHardTriplet(),
    baselines.Contrastive(),
    baselines.Calibration(),
    baselines.MultiSimilarity(),
    baselines.SmoothAveragePrecision(),
    baselines.RecallAtK(),
]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tests share the machine; threads that wait for each other on a busy core take seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch() -> tuple[Tensor, Tensor, list[list[float]], list[int]]:
    """Unbalanced classes, the last image alone in its class."""
    descriptors = unit_rows(14, 4, seed=0)
    labels = torch.tensor([0, 1, 2, 0, 1, 0, 2, 2, 1, 0, 0, 3, 3, 4])
    return descriptors, labels, (descriptors @ descriptors.T).tolist(), labels.tolist()


def lists(classes: list[int]) -> list[tuple[int, list[int], list[int]]]:
    """Query, positives and negatives, of the queries that have a positive."""
    everything = range(len(classes))
    found = [
        (
            i,
            [j for j in everything if j != i and classes[j] == classes[i]],
            [j for j in everything if classes[j] != classes[i]],
        )
        for i in everything
    ]
    return [(i, positives, negatives) for i, positives, negatives in found if positives]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def test_triplet_compares_the_hardest_pair_of_each_query() -> None:
    descriptors, labels, s, classes = batch()
    expected = mean(
        [
            max(0.0, 0.3 + max(s[i][j] for j in negatives) - min(s[i][j] for j in positives))
            for i, positives, negatives in lists(classes)
        ]
    )
    found = baselines.BatchHardTriplet(margin=0.3)(descriptors, labels)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_contrastive_sums_half_squared_distances() -> None:
    descriptors, labels, _, classes = batch()
    distance = (descriptors[:, None] - descriptors).norm(dim=2).tolist()
    expected = mean(
        [
            sum(distance[i][j] ** 2 / 2 for j in positives)
            + sum(max(0.0, 1.2 - distance[i][j]) ** 2 / 2 for j in negatives)
            for i, positives, negatives in lists(classes)
        ]
    )
    found = baselines.Contrastive(margin=1.2)(descriptors, labels)
    assert found.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("margins", [(0.9, 0.6), (0.2, -0.5), (-1.0, 1.0)])
def test_calibration_is_the_mean_excess_of_the_pairs_that_have_one(
    margins: tuple[float, float],
) -> None:
    descriptors, labels, s, classes = batch()
    loss = baselines.Calibration(positive_margin=margins[0], negative_margin=margins[1])
    expected = reference.calibration(s, classes, *margins)
    assert loss(descriptors, labels).item() == pytest.approx(expected, abs=1e-12)


def test_calibration_is_that_of_the_published_code_of_roadmap() -> None:
    """That extends the contrastive loss of pytorch-metric-learning, with products for distances."""
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import distances, losses

    published = losses.ContrastiveLoss(0.9, 0.6, distance=distances.DotProductSimilarity())
    descriptors, labels, *_ = batch()
    found = baselines.Calibration()(descriptors, labels)
    assert found.item() == pytest.approx(published(descriptors, labels).item(), abs=1e-12)


def test_multi_similarity_is_its_formula_over_mined_pairs() -> None:
    descriptors, labels, s, classes = batch()
    losses = []
    for i, positives, negatives in lists(classes):
        hardest_negative = max(s[i][j] for j in negatives)
        hardest_positive = min(s[i][j] for j in positives)
        pulled = [s[i][j] for j in positives if s[i][j] < hardest_negative + 0.1]
        pushed = [s[i][j] for j in negatives if s[i][j] > hardest_positive - 0.1]
        losses.append(
            math.log(1 + sum(math.exp(-2 * (x - 0.5)) for x in pulled)) / 2
            + math.log(1 + sum(math.exp(50 * (x - 0.5)) for x in pushed)) / 50
        )
    found = baselines.MultiSimilarity()(descriptors, labels)
    assert found.item() == pytest.approx(mean(losses), abs=1e-12)


@pytest.mark.parametrize("include_self", [True, False])
def test_smooth_average_precision_counts_ranks_through_a_sigmoid(include_self: bool) -> None:
    descriptors, labels, s, classes = batch()
    averages = []
    for i in range(len(classes)):
        listed = [j for j in range(len(classes)) if j != i or include_self]
        positive = [classes[j] == classes[i] for j in listed]
        if any(positive):
            scores = [s[i][j] for j in listed]
            averages.append(reference.smooth_average_precision(scores, positive, 0.05))
    found = baselines.SmoothAveragePrecision(temperature=0.05, include_self=include_self)(
        descriptors, labels
    )
    assert found.item() == pytest.approx(1 - mean(averages), abs=1e-12)


@pytest.mark.parametrize(
    "case",
    [case for case in CASES["losses"] if "temperature" in case["options"]],
    ids=lambda case: case["id"],
)
def test_smooth_average_precision_has_the_published_loss_and_gradient(case: dict[str, Any]) -> None:
    rows = torch.tensor(CASES["inputs"][case["input"]]["embeddings"], dtype=torch.float64)
    labels = torch.tensor(CASES["inputs"][case["input"]]["labels"])
    rows.requires_grad_()
    loss = baselines.SmoothAveragePrecision(**case["options"])(normalize(rows, dim=1), labels)
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], abs=1e-9)
    assert rows.grad is not None
    torch.testing.assert_close(rows.grad.tolist(), case["gradient"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("temperature", ["0_01", "0_05"])
def test_smooth_average_precision_has_the_published_mean(temperature: str) -> None:
    rows = torch.tensor(CASES["batch"]["embeddings"], dtype=torch.float64)
    loss = baselines.SmoothAveragePrecision(temperature=float(temperature.replace("_", ".")))(
        normalize(rows, dim=1), torch.tensor(CASES["batch"]["labels"])
    )
    published = CASES["batch"]["smooth_ap"][f"tau_{temperature}"]
    assert 1 - loss.item() == pytest.approx(mean(published), abs=1e-9)


@pytest.mark.parametrize(
    ("ks", "temperatures"),
    [((1, 4), (0.5, 0.5)), ((1, 2, 4, 8, 16), (1, 2, 4, 8, 16)), ((1, 2), (9.0, 30.0))],
    ids=["one temperature", "the published ones", "high ones, which find more than k"],
)
def test_recall_at_k_is_the_published_one_without_the_query_in_its_own_list(
    ks: tuple[int, ...], temperatures: tuple[float, ...]
) -> None:
    descriptors, labels, s, classes = batch()
    options = {"ks": ks, "rank_temperature": 0.05, "recall_temperatures": temperatures}
    loss = baselines.RecallAtK(**options)(descriptors, labels)  # type: ignore[arg-type]
    expected = published_recall_loss(s, classes, ks, temperatures, is_listed=False)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert 0 <= loss.item() <= 1
    if len(set(temperatures)) == 1:
        one = baselines.RecallAtK(ks=ks, rank_temperature=0.05, recall_temperature=temperatures[0])
        assert one(descriptors, labels).item() == loss.item()


def test_the_query_in_its_own_list_takes_a_place_of_the_published_recall() -> None:
    # A query and its positive; far enough apart that the published sigmoid counts the query as 1.
    scores, classes = [[1.0, 0.0], [0.0, 1.0]], [0, 0]
    here, there = (
        1 - published_recall_loss(scores, classes, (1,), (1.0,), is_listed=is_listed)
        for is_listed in (False, True)
    )
    assert here == pytest.approx(0.5)
    assert there == pytest.approx(0.27, abs=0.005)
    rows = torch.eye(2, dtype=torch.float64)
    assert baselines.RecallAtK(ks=(1,))(rows, torch.zeros(2).long()).item() == pytest.approx(0.5)


def published_recall_loss(
    scores: list[list[float]],
    classes: list[int],
    ks: tuple[int, ...],
    temperatures: tuple[float, ...],
    *,
    is_listed: bool,
) -> float:
    """That of Patel et al., query by query, by itself; ``is_listed``: the query in its own list."""

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    losses = []
    for i, positives, negatives in lists(classes):
        listed = positives + negatives + [i] * is_listed
        ranks = [
            1 + sum(sigmoid((scores[i][z] - scores[i][x]) / 0.05) for z in listed if z != x)
            for x in positives
        ]
        for k, temperature in zip(ks, temperatures, strict=True):
            found = min(k, sum(sigmoid((k - rank) / temperature) for rank in ranks))
            losses.append(1 - found / min(k, len(positives)))
    return mean(losses)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradient_is_that_of_finite_differences(loss: Callable[..., Tensor]) -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    rows = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(normalize(x, dim=1), labels), rows, eps=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("labels", [torch.arange(6), torch.zeros(6).long()])
def test_loss_and_gradient_are_finite_without_positives_or_negatives(
    loss: Callable[..., Tensor], labels: Tensor
) -> None:
    rows = unit_rows(6, 3, seed=2).requires_grad_()
    value = loss(rows, labels)
    value.backward()
    assert value.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_loss_of_equal_descriptors_has_a_finite_gradient() -> None:
    for loss in LOSSES:
        rows = torch.ones(6, 1, dtype=torch.float64, requires_grad=True)
        loss(rows, torch.arange(6) // 2).backward()
        assert rows.grad is not None
        assert rows.grad.isfinite().all()


def test_multi_similarity_is_that_of_pytorch_metric_learning() -> None:
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import losses, miners

    # There, a query without a positive pair of its own counts in the mean: none is alone here.
    descriptors, labels = unit_rows(12, 4, seed=3), torch.arange(12) % 4
    theirs = losses.MultiSimilarityLoss(alpha=2, beta=50, base=0.5)
    pairs = miners.MultiSimilarityMiner(epsilon=0.1)(descriptors, labels)
    found = baselines.MultiSimilarity()(descriptors, labels)
    assert found.item() == pytest.approx(theirs(descriptors, labels, pairs).item(), abs=1e-9)


def test_bad_input_is_refused() -> None:
    descriptors, labels, *_ = batch()
    with pytest.raises(ValueError, match="unit length"):
        baselines.BatchHardTriplet()(descriptors * 2, labels)
    with pytest.raises(ValueError, match="labels must have shape"):
        baselines.BatchHardTriplet()(descriptors, labels[:3])


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_scores_have_the_precision_of_their_descriptors(loss: Callable[..., Tensor]) -> None:
    descriptors, labels, *_ = batch()
    expected = loss(descriptors, labels).item()  # in float64
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(descriptors.float(), labels).item() == pytest.approx(expected, rel=1e-5)
