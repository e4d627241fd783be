"""The listwise loss against its definition, published figures, and itself on several workers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from apdist.loss.gradient import score_own_rows
from apdist.loss.listwise import (
    AveragePrecisionLoss,
    average_precision,
    average_precision_loss,
)
from apdist.loss.results import RowScores
from tests.places import ROOT
from tests.reference import (
    average_precision_of_batch,
    mean_loss,
    unit_rows,
)

CASES = json.loads((ROOT / "tests/cases/average_precision.json").read_text())
FAST = ["tiled", "numba"]
EVERY = ["dense", *FAST]
VARIANTS = ["ap", "tie_aware", "tie_aware_simplified"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tests share the machine; threads that wait for each other on a busy core take seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def loss_and_gradient(rows: Tensor, labels: Tensor, **options: Any) -> tuple[float, Tensor]:
    """Loss of the normalised ``rows`` and its gradient by the rows themselves.

    The gradient along a descriptor is projected out: at a score of exactly 1, a bin centre, two
    subgradients are valid, and they differ in that direction only.
    """
    rows = rows.detach().clone().requires_grad_()
    loss = average_precision_loss(normalize(rows, dim=1), labels, **options)
    loss.backward()
    assert rows.grad is not None
    return loss.item(), rows.grad


def score_range(case: dict[str, Any]) -> dict[str, float]:
    """Its ends, as the loss takes them."""
    return dict(zip(("min_score", "max_score"), case["score_range"], strict=True))


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm().clamp(min=1e-12)).item()


def random_batch(seed: int) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Rows, labels and options of any kind: lone queries, duplicates, junk, one class only."""
    random = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    n, d = draw(1, 300 if seed % 3 == 0 else 60), draw(2, 24)
    labels = torch.randint(0, draw(1, n), (n,), generator=random)
    rows = torch.randn(n, d, generator=random, dtype=torch.float64)
    rows += torch.randn(n, d, generator=random, dtype=torch.float64)[labels] * draw(0, 2)
    if draw(0, 1):
        rows[torch.randint(0, n, (n // 4,), generator=random)] = rows[draw(0, n - 1)].clone()
    options: dict[str, Any] = {
        "num_bins": draw(2, 100),
        "min_score": [-1.0, 0.0][draw(0, 1)],
        "include_self": bool(draw(0, 1)),
        "query_weights": torch.rand(n, generator=random, dtype=torch.float64),
    }
    if draw(0, 1):
        options["ignore"] = torch.randint(-1, draw(0, n), (n,), generator=random)
    return rows, labels, options


# Against the definition


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("include_self", [False, True])
def test_average_precision_is_that_of_the_slow_definition(
    backend: str, variant: str, include_self: bool
) -> None:
    descriptors = unit_rows(23, 5, seed=0)
    labels = torch.arange(23) % 7 * (torch.arange(23) < 21)
    ignore = torch.arange(23) % 5 - 1
    options: dict[str, Any] = {"num_bins": 9, "variant": variant, "include_self": include_self}
    found = average_precision(
        descriptors, labels, ignore=ignore, backend=backend, tile_size=6, **options
    )
    expected = average_precision_of_batch(descriptors, labels, ignore=ignore, **options)
    torch.testing.assert_close(found.tolist(), expected, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("seed", range(60))
def test_tiles_give_the_loss_and_gradient_of_autograd(backend: str, seed: int) -> None:
    rows, labels, options = random_batch(seed)
    expected_loss, expected = loss_and_gradient(rows, labels, backend="dense", **options)
    tile_size = [1, 7, 64][seed % 3] if len(rows) < 30 else 90 + seed
    loss, gradient = loss_and_gradient(
        rows, labels, backend=backend, tile_size=tile_size, **options
    )
    assert abs(loss - expected_loss) < 1e-12
    assert relative_error(gradient, expected) < 1e-10 or expected.norm() < 1e-9


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("variant", VARIANTS[1:])
@pytest.mark.parametrize("seed", range(5))
def test_tie_aware_tiles_give_the_loss_and_gradient_of_autograd(
    backend: str, variant: str, seed: int
) -> None:
    rows, labels, options = random_batch(seed)
    # The published formula jumps where a bin holds one image, as many bins would.
    options |= {"variant": variant, "num_bins": 5}
    expected_loss, expected = loss_and_gradient(rows, labels, backend="dense", **options)
    loss, gradient = loss_and_gradient(rows, labels, backend=backend, tile_size=50, **options)
    assert abs(loss - expected_loss) < 1e-11
    assert relative_error(gradient, expected) < 1e-9 or expected.norm() < 1e-9


@pytest.mark.parametrize("backend", EVERY)
def test_gradient_is_that_of_finite_differences(backend: str) -> None:
    labels = torch.tensor([0, 0, 1, 1, 1, 2, 0])
    rows = torch.randn(7, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(rows: Tensor) -> Tensor:
        return average_precision_loss(
            normalize(rows, dim=1), labels, num_bins=6, backend=backend, tile_size=3
        )

    assert torch.autograd.gradcheck(loss, rows.requires_grad_(), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("backend", FAST)
def test_similarity_of_an_image_with_itself_is_a_constant(backend: str) -> None:
    labels = torch.arange(30) % 7
    gradients = []
    for each in ("dense", backend):
        # Shorter than 1, so that the similarity with itself lies inside the range of scores.
        leaf = (unit_rows(30, 5, seed=18) * 0.9).requires_grad_()
        average_precision_loss(
            leaf, labels, include_self=True, backend=each, check_norm=False
        ).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", FAST)
def test_float32_gradient_of_4096_images_is_within_1e_4_of_float64(backend: str) -> None:
    labels = torch.arange(4096) // 4
    centres = torch.randn(1024, 32, generator=torch.Generator().manual_seed(0))
    rows = centres[labels] + torch.randn(4096, 32, generator=torch.Generator().manual_seed(1))
    loss, gradient = loss_and_gradient(rows, labels, backend=backend)
    exact_loss, exact = loss_and_gradient(rows.double(), labels, backend="numba")
    assert abs(loss - exact_loss) < 1e-6
    assert relative_error(gradient.double(), exact) < 1e-4


# Against published figures


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("case", CASES["batch"]["results"], ids=lambda case: case["id"])
def test_batch_of_12_has_the_published_loss(case: dict[str, Any], backend: str) -> None:
    rows = torch.tensor(CASES["batch"]["embeddings"], dtype=torch.float64)
    labels = torch.tensor(CASES["batch"]["labels"])
    options = {
        "num_bins": case["num_bins"],
        **score_range(case),
        "include_self": case["include_self"],
        "backend": backend,
    }
    averages = average_precision(normalize(rows, dim=1), labels, **options)
    torch.testing.assert_close(averages.tolist(), case["average_precision"], rtol=0, atol=1e-9)
    weights = None if case["weights"] is None else torch.tensor(case["weights"]).double()
    loss, gradient = loss_and_gradient(rows, labels, query_weights=weights, **options)
    assert loss == pytest.approx(case["loss"], abs=1e-9)
    torch.testing.assert_close(gradient.tolist(), case["gradient"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize(
    "case",
    [case for case in CASES["losses"] if "temperature" not in case["options"]],
    ids=lambda case: case["id"],
)
def test_peers_have_the_same_loss_and_gradient(case: dict[str, Any], backend: str) -> None:
    rows = torch.tensor(CASES["inputs"][case["input"]]["embeddings"], dtype=torch.float64)
    labels = torch.tensor(CASES["inputs"][case["input"]]["labels"])
    options = dict(case["options"])
    if "score_range" in options:
        options |= score_range(options)
        del options["score_range"]
    loss, gradient = loss_and_gradient(rows, labels, backend=backend, **options)
    assert loss == pytest.approx(case["loss"], abs=1e-9)
    # An image alone in its bin: the tie-aware formula divides by 1e-8 there, and so amplifies
    # rounding errors.
    tolerance = 1e-8 if options.get("variant") == "tie_aware" else 1e-9
    torch.testing.assert_close(gradient.tolist(), case["gradient"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("num_bins", CASES["batch"]["mean_by_num_bins"])
def test_more_bins_give_the_published_means(num_bins: str) -> None:
    rows = torch.tensor(CASES["batch"]["embeddings"], dtype=torch.float64)
    loss, _ = loss_and_gradient(
        rows, torch.tensor(CASES["batch"]["labels"]), num_bins=int(num_bins), include_self=True
    )
    assert 1 - loss == pytest.approx(CASES["batch"]["mean_by_num_bins"][num_bins], abs=1e-9)


# Closed forms and symmetries


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize(("num_classes", "size"), [(3, 4), (8, 8)])
def test_perfect_ranking_has_loss_0_and_collapsed_descriptors_that_of_chance(
    backend: str, num_classes: int, size: int
) -> None:
    labels = torch.arange(num_classes * size) % num_classes
    perfect = torch.eye(num_classes, dtype=torch.float64)[labels]
    assert average_precision_loss(perfect, labels, backend=backend).item() == pytest.approx(0)
    collapsed = torch.ones(len(labels), 1, dtype=torch.float64)
    found = average_precision_loss(collapsed, labels, backend=backend).item()
    assert found == pytest.approx(1 - (size - 1) / (len(labels) - 1), abs=1e-12)


@pytest.mark.parametrize("backend", FAST)
def test_order_and_rotation_of_the_batch_change_nothing(backend: str) -> None:
    rows, labels = unit_rows(60, 8, seed=1), torch.arange(60) % 13
    loss, gradient = loss_and_gradient(rows, labels, backend=backend, tile_size=17)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    rotation = torch.linalg.qr(unit_rows(8, 8, seed=3)).Q
    moved_loss, moved = loss_and_gradient(
        (rows @ rotation)[order], labels[order], backend=backend, tile_size=17
    )
    assert moved_loss == pytest.approx(loss, abs=1e-12)
    torch.testing.assert_close(moved, (gradient @ rotation)[order], rtol=0, atol=1e-10)


# Queries


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_scale_of_query_weights_says_nothing(backend: str, dtype: torch.dtype) -> None:
    rows, labels = unit_rows(12, 4, seed=5, dtype=dtype), torch.arange(12) // 4
    weights = torch.linspace(0, 3, 12, dtype=torch.float64)
    expected = loss_and_gradient(rows, labels, query_weights=weights, backend=backend)
    for scale in (1e-300, 1e-46, 1e38, 5e307):
        loss, gradient = loss_and_gradient(
            rows, labels, query_weights=weights * scale, backend=backend
        )
        assert loss == pytest.approx(expected[0], abs=1e-12)
        torch.testing.assert_close(gradient, expected[1], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("backend", EVERY)
def test_query_weights_are_normalised_over_the_queries_that_count(backend: str) -> None:
    descriptors, labels = (
        unit_rows(12, 4, seed=5),
        torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 3, 4, 5, 6]),
    )
    weights = torch.linspace(0, 3, 12, dtype=torch.float64)
    averages = average_precision_of_batch(descriptors, labels)
    expected = mean_loss(averages, weights.tolist())
    for scale in (1.0, 50.0):
        found = average_precision_loss(
            descriptors, labels, query_weights=weights * scale, backend=backend
        )
        assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("backend", EVERY)
def test_lone_query_is_undefined_and_left_out_of_the_mean(backend: str) -> None:
    rows, labels = unit_rows(5, 4, seed=6), torch.tensor([0, 0, 1, 1, 2])
    averages = average_precision(rows, labels, backend=backend)
    assert averages.isnan().tolist() == [False] * 4 + [True]
    loss, gradient = loss_and_gradient(rows, labels, backend=backend)
    assert loss == pytest.approx(1 - averages[:4].mean().item())
    assert gradient.isfinite().all()


@pytest.mark.parametrize("backend", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("labels", "weights"), [(torch.arange(6), None), (torch.arange(6) // 2, torch.zeros(6))]
)
def test_batch_without_a_positive_that_counts_has_loss_0_gradient_0_and_one_warning(
    backend: str,
    dtype: torch.dtype,
    labels: Tensor,
    weights: Tensor | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = unit_rows(6, 4, seed=7, dtype=dtype)
    with caplog.at_level(logging.WARNING):
        loss, gradient = loss_and_gradient(rows, labels, backend=backend, query_weights=weights)
    assert loss == 0
    assert gradient.tolist() == torch.zeros(6, 4).tolist()
    assert len(caplog.records) == 1
    assert "has a positive" in caplog.text


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("n", [0, 1])
def test_batch_of_no_pairs_has_loss_0(backend: str, n: int) -> None:
    loss, gradient = loss_and_gradient(
        torch.ones(n, 3), torch.zeros(n, dtype=torch.long), backend=backend
    )
    assert loss == 0
    assert gradient.shape == (n, 3)


# Several workers


class Workers:
    """Threads that stand for workers; counts what each hands to the collectives."""

    def __init__(self, cuts: list[int]) -> None:
        self.rows = [slice(a, b) for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
        self.barrier = threading.Barrier(len(self.rows), timeout=60)
        self.given: dict[tuple[int, str], list[Tensor]] = {}

    def collective(self, worker: int, name: str, join: Callable[..., Tensor]) -> Any:
        def run(value: Tensor) -> Tensor:
            self.given.setdefault((worker, name), []).append(value)
            self.barrier.wait()
            result = join([self.given[other, name][-1] for other in range(len(self.rows))])
            self.barrier.wait()
            return result

        return run

    def score(self, loss: AveragePrecisionLoss, *batch: Tensor, **options: Any) -> list[RowScores]:
        results: dict[int, RowScores] = {}

        def work(worker: int) -> None:
            results[worker] = score_own_rows(
                loss,
                *batch,
                self.rows[worker],
                sum_over_workers=self.collective(worker, "sum", sum),
                gather_rows=self.collective(worker, "gather", torch.cat),
                **options,
            )

        threads = [threading.Thread(target=work, args=(w,)) for w in range(len(self.rows))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [results[worker] for worker in range(len(self.rows))]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    ("cuts", "num_bins"),
    [([], 20), ([40], 20), ([11, 11], 20), ([0, 63, 90], 20), ([40], 120)],
)
def test_workers_together_have_the_gradient_of_one_process(
    backend: str, cuts: list[int], num_bins: int
) -> None:
    descriptors = unit_rows(90, 6, seed=8)
    # The first workers hold all the lone queries: a mean over own queries would show.
    labels = torch.cat((torch.arange(40) + 100, torch.arange(50) % 9))
    options: dict[str, Any] = {
        "ignore": torch.arange(90) % 11 - 3,
        "query_weights": torch.linspace(0.1, 2, 90, dtype=torch.float64),
    }
    leaf = descriptors.clone().requires_grad_()
    expected = average_precision_loss(leaf, labels, backend="dense", num_bins=num_bins, **options)
    expected.backward()
    loss = AveragePrecisionLoss(backend=backend, tile_size=16, num_bins=num_bins)
    scores = Workers(cuts).score(loss, descriptors, labels, **options)
    assert [score.loss.item() for score in scores] == pytest.approx(
        [expected.item()] * len(scores), abs=1e-12
    )
    gradient = torch.cat([score.gradient for score in scores])
    assert leaf.grad is not None
    assert relative_error(gradient, leaf.grad) < 1e-10
    assert {score.diagnostics.num_queries for score in scores} == {50}
    assert {score.diagnostics.num_lone_queries for score in scores} == {40}


@pytest.mark.parametrize("labels", [torch.arange(12) // 3, torch.arange(12)])
def test_every_worker_calls_each_collective_once(labels: Tensor) -> None:
    workers = Workers([5, 5])
    workers.score(AveragePrecisionLoss(num_bins=20), unit_rows(12, 4, seed=9), labels)
    assert {key: len(values) for key, values in workers.given.items()} == {
        (worker, name): 1 for worker in range(3) for name in ("sum", "gather")
    }


def test_workers_exchange_2_times_m_minus_1_numbers_a_row() -> None:
    workers = Workers([5, 8])
    batch = unit_rows(12, 4, seed=9, dtype=torch.float32), torch.arange(12) // 3
    workers.score(AveragePrecisionLoss(num_bins=20), *batch)
    for worker, num_rows in enumerate((5, 3, 4)):
        (given,) = workers.given[worker, "gather"]
        assert given.numel() == num_rows * 2 * 19
        assert given.dtype == torch.float32
        assert given.is_contiguous()  # as collectives want it


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_workers_without_a_positive_have_loss_0_and_gradient_0(dtype: torch.dtype) -> None:
    rows = unit_rows(12, 4, seed=9, dtype=dtype)
    scores = Workers([5]).score(AveragePrecisionLoss(), rows, torch.arange(12))
    for score in scores:
        assert score.loss == 0
        assert not score.gradient.any()
        assert score.average_precision.isnan().all()
        found = score.diagnostics
        assert (found.num_queries, found.num_lone_queries) == (0, 12)


# Memory, threads, precision


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest result of any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, Tensor):
                self.num_elements = max(self.num_elements, value.untyped_storage().nbytes() // 4)
        return result


@pytest.mark.parametrize("backend", FAST)
def test_no_tensor_grows_with_the_square_of_the_batch(backend: str) -> None:
    n = 1500
    descriptors = unit_rows(n, 4, seed=11, dtype=torch.float32).requires_grad_()
    with LargestTensor() as largest:
        average_precision_loss(
            descriptors, torch.arange(n) // 3, backend=backend, tile_size=100, cache_mib=0
        ).backward()
    assert largest.num_elements <= 2 * 2 * 21 * n  # two tables of float64


@pytest.mark.parametrize("backend", FAST)
def test_keeping_intervals_changes_no_bit_of_the_gradient(backend: str) -> None:
    rows, labels = unit_rows(400, 8, seed=12, dtype=torch.float32), torch.arange(400) % 90
    options: dict[str, Any] = {"backend": backend, "tile_size": 128, "ignore": labels % 7}
    _, kept = loss_and_gradient(rows, labels, **options)
    _, recomputed = loss_and_gradient(rows, labels, cache_mib=0, **options)
    assert torch.equal(kept, recomputed)


def test_one_thread_or_three_give_the_same_bits() -> None:
    rows, labels = unit_rows(700, 8, seed=13, dtype=torch.float32), torch.arange(700) % 100
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            descriptors = rows.clone().requires_grad_()
            # Eight products of whole numbers: the matrix products are exact, too.
            with torch.no_grad():
                descriptors.mul_(64).round_().div_(64)
            loss = average_precision_loss(descriptors, labels, check_norm=False)
            loss.backward()
            results.append((loss.item(), descriptors.grad))
    finally:
        torch.set_num_threads(before)
    assert results[0][0] == results[1][0]
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-9)


def test_importing_the_loss_imports_neither_numba_nor_the_kernels_of_triton() -> None:
    code = (
        "import sys, apdist.loss.listwise\n"
        "sys.exit(any(n == 'numba' or 'loss.kernels.triton' in n for n in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


# Refusals


GOOD = unit_rows(6, 4, seed=17)
LABELS = torch.arange(6) // 2


@pytest.mark.parametrize("rows", [slice(-3, None), slice(2, 1), slice(0, 7), slice(0, 6, 2)])
def test_rows_outside_the_batch_are_refused(rows: slice) -> None:
    with pytest.raises(ValueError, match="contiguous part of the 6 images"):
        score_own_rows(
            AveragePrecisionLoss(),
            *(GOOD, LABELS, rows),
            sum_over_workers=lambda x: x,
            gather_rows=lambda x: x,
        )


def test_the_definition_is_no_loss_of_several_workers() -> None:
    with pytest.raises(ValueError, match='backend "dense" serves one process; use "tiled"'):
        score_own_rows(
            AveragePrecisionLoss(backend="dense"),
            *(GOOD, LABELS, slice(0, 3)),
            sum_over_workers=lambda x: x,
            gather_rows=lambda x: x,
        )


def test_a_compiled_step_leaves_the_loss_as_it_is() -> None:
    compiled = torch.compile(AveragePrecisionLoss(), backend="eager")
    assert float(compiled(GOOD, LABELS)) == float(average_precision_loss(GOOD, LABELS))
