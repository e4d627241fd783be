"""The Triton kernels, interpreted on the CPU or run on a GPU, against the definition."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from apdist.config.loss import LossOptions
from apdist.loss.batch import checked_batch
from apdist.loss.gradient import ScoreCache, cumulative_histograms, score_own_rows
from apdist.loss.kernels import triton_histogram as host
from apdist.loss.kernels import triton_tables
from apdist.loss.kernels.available import has_triton, is_interpreted
from apdist.loss.kernels.products import Exact
from apdist.loss.listwise import (
    AveragePrecisionLoss,
    average_precision,
    average_precision_loss,
)
from apdist.loss.results import RowScores
from apdist.loss.tiles import Histograms, Pairs
from tests.reference import unit_rows

pytestmark = pytest.mark.skipif(not has_triton(), reason="triton is not installed")

CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
PINNED_TRITON = CONSTRAINTS.read_text().rpartition("triton==")[2].split()[0]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def few_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter's time goes by programs and loads: let each take more at a time."""
    if is_interpreted():
        monkeypatch.setitem(host.ROWS, "rows_at_once", 64)
        monkeypatch.setitem(host.COLUMNS, "columns_at_once", 64)
        monkeypatch.setitem(host.COLUMNS, "loads_at_once", 2)
        monkeypatch.setitem(host.RELATED, "lines_at_once", 64)
        monkeypatch.setitem(host.SLOPES, "rows_at_once", 64)
        patch_language_once(monkeypatch)


def patch_language_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter replaces the words of Triton's language, again at each call of a function."""
    from triton.runtime import interpreter

    patch, language = interpreter._patch_lang, (interpreter.tl, interpreter.tl.core)

    def once(function: Any) -> Any:
        modules = [value for value in function.__globals__.values() if value in language]
        if any(interpreter.tl.core.is_builtin(module.load) for module in modules):
            return patch(function)
        return interpreter._LangPatchScope()

    monkeypatch.setattr(interpreter, "_patch_lang", once)


def batch(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Float32 descriptors, labels with some images alone, and ignore ids of pairs and of none."""
    images = torch.arange(n, device=DEVICE)
    labels = images % max(1, n // 4) * (images < 0.9 * n) - images * (images >= 0.9 * n)
    descriptors = unit_rows(n, d, seed=seed, dtype=torch.float32).to(DEVICE)
    return descriptors, labels, images % 11 - 3


def exact_rows(n: int) -> Tensor:
    """Rows whose scores are multiples of 1/1024, exact in float32 in any order."""
    rows = torch.randint(-8, 9, (n, 6), generator=torch.Generator().manual_seed(3))
    return (rows.float() / 32).to(DEVICE)


def histograms_of(
    descriptors: Tensor,
    labels: Tensor,
    ignore: Tensor,
    rows: slice | None = None,
    **options: Any,
) -> tuple[Histograms, ScoreCache]:
    options = {"backend": "triton", "tile_size": 128, "check_norm": False} | options
    batch = checked_batch(descriptors, labels, ignore, None, LossOptions(**options))
    return cumulative_histograms(batch, slice(0, len(labels)) if rows is None else rows)


def contents(seen: ScoreCache) -> list[tuple[int, list[list[int]]]]:
    """The codes of all tiles, in an order of their own."""
    return sorted((codes.numel(), codes.tolist()) for codes in seen.codes)


def loss_and_gradient(descriptors: Tensor, labels: Tensor, **options: Any) -> tuple[float, Tensor]:
    leaf = descriptors.detach().clone().requires_grad_()
    loss = average_precision_loss(leaf, labels, check_norm=False, **options)
    loss.backward()
    assert leaf.grad is not None
    return loss.item(), leaf.grad


def relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm().clamp(min=1e-9)).item()


# First pass


@pytest.mark.parametrize(
    ("n", "d", "num_bins", "score_range", "include_self"),
    [
        (1, 3, 5, (-1.0, 1.0), False),
        (7, 17, 2, (0.0, 1.0), False),
        (45, 64, 33, (-1.0, 1.0), True),
        (300, 3, 20, (0.0, 1.0), False),
        (20, 3, 255, (-1.0, 1.0), True),
    ],
)
def test_histograms_are_those_of_plain_torch_in_float64(
    n: int, d: int, num_bins: int, score_range: tuple[float, float], include_self: bool
) -> None:
    descriptors, labels, ignore = batch(n, d)
    options: dict[str, Any] = {
        "num_bins": num_bins,
        "min_score": score_range[0],
        "max_score": score_range[1],
        "include_self": include_self,
    }
    found, _ = histograms_of(descriptors, labels, ignore, **options)
    expected, _ = histograms_of(descriptors.double(), labels, ignore, backend="tiled", **options)
    # A float32 score errs by one part in ten million, times the bins in its range.
    tolerance = 1e-6 * num_bins * n**0.5
    torch.testing.assert_close(found.everything, expected.everything, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.positives, expected.positives, rtol=0, atol=tolerance)
    assert torch.equal(found.positive_counts, expected.positive_counts)
    assert torch.equal(found.everything[:, -1], expected.everything[:, -1])


@pytest.mark.parametrize(
    ("n", "rows", "tile_size"),
    [
        (333, slice(0, 333), 128),
        (256, slice(0, 256), 1000),
        (333, slice(37, 333), 128),
        (333, slice(50, 50), 128),
    ],
)
def test_exact_scores_have_the_same_histograms_by_any_tiles(
    n: int, rows: slice, tile_size: int
) -> None:
    descriptors, (_, labels, ignore) = exact_rows(n), batch(n, 1)
    # 16 intervals over a range of 2: places, and float32 sums of 128 shares, are exact as well.
    options: dict[str, Any] = {"num_bins": 17, "rows": rows, "tile_size": tile_size}
    found, seen = histograms_of(descriptors, labels, ignore, **options)
    expected, expected_seen = histograms_of(descriptors, labels, ignore, backend="tiled", **options)
    assert torch.equal(found.everything, expected.everything)
    assert torch.equal(found.positives, expected.positives)
    assert torch.equal(found.positive_counts, expected.positive_counts)
    assert contents(seen) == contents(expected_seen)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (torch.nan, {}, "must be finite, got NaN or infinity in 1 rows, the first is row 3"),
        (torch.inf, {"check_norm": False}, "must be finite, .* row 3"),
        (0.9, {}, "must have unit length within 0.001, got norm .* at row 3"),
    ],
)
def test_bad_descriptors_are_refused_though_they_are_looked_at_last(
    row: float, options: dict[str, Any], message: str
) -> None:
    descriptors, labels, _ = batch(40, 8)
    descriptors[3] = row
    every = slice(0, 40)
    options = {"backend": "triton"} | options
    with pytest.raises(ValueError, match=message):
        average_precision_loss(descriptors, labels, **options)
    with pytest.raises(ValueError, match=message):
        average_precision_loss(descriptors.clone().requires_grad_(), labels, **options)
    with pytest.raises(ValueError, match=message):
        average_precision(descriptors, labels, **options)
    loss = AveragePrecisionLoss(**options)
    with pytest.raises(ValueError, match=message):
        score_own_rows(loss, descriptors, labels, every, sum_over_workers=same, gather_rows=same)


def same(value: Tensor) -> Tensor:
    return value


def test_scores_on_and_beyond_the_outer_centres_have_codes_of_slope_0() -> None:
    descriptors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]], device=DEVICE)
    labels = torch.tensor([0, 0, 0, 1], device=DEVICE)
    for low, high, inside in ((-1.0, 1.0, 3), (-0.5, 0.5, 3), (0.0, 1.0, 5)):
        bins: dict[str, Any] = {"num_bins": 5, "min_score": low, "max_score": high}
        found, seen = histograms_of(descriptors, labels, torch.full_like(labels, -1), **bins)
        assert seen.codes[0].tolist() == [
            [0, 0, 5, inside],
            [0, 0, 5, inside],
            [5, 5, 0, inside],
            [inside, inside, inside, 0],
        ]
        assert not found.positive_counts.any()
        assert found.positives[0].tolist() == [1, 1, 1, 1, 2]


def test_row_of_40000_scores_is_counted_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 40_000
    if is_interpreted():
        monkeypatch.setitem(host.ROWS, "rows_at_once", 1)
        monkeypatch.setitem(host.ROWS, "columns_at_once", 1024)
    descriptors = unit_rows(n, 3, seed=2, dtype=torch.float32).to(DEVICE)
    # The interpreter takes its time: let every eighth block have positives.
    labels = torch.arange(n, device=DEVICE) // 128 % 8
    ignore = torch.full_like(labels, -1)
    found, _ = histograms_of(descriptors, labels, ignore, slice(5, 6), num_bins=3, tile_size=n)
    scores = (descriptors[5:6] @ descriptors.T)[0]
    places = (1 - scores.double()).clamp(0, 2)
    places[5] = 3
    for u in range(3):
        share = (u + 1 - places).clamp(0, 1)
        expected = torch.stack((share.sum(), share[labels == labels[5]].sum()))
        result = torch.stack((found.everything[0, u], found.positives[0, u]))
        # Each of 40,000 shares is known to one part in ten million.
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-3)
    assert found.everything[0, -1] == n - 1


# Both passes


@pytest.mark.parametrize(
    ("n", "d", "options"),
    [
        (1, 3, {"num_bins": 5}),
        (7, 3, {"num_bins": 2}),
        (45, 17, {"num_bins": 33, "min_score": 0.0, "include_self": True}),
        (45, 3, {"num_bins": 20, "variant": "tie_aware_simplified"}),
        (300, 64, {"num_bins": 5, "min_score": -0.5, "max_score": 0.7}),
    ],
)
def test_loss_and_gradient_are_those_of_the_definition(
    n: int, d: int, options: dict[str, Any]
) -> None:
    descriptors, labels, ignore = batch(n, d, seed=1)
    options = {"ignore": ignore, **options}
    expected_loss, expected = loss_and_gradient(
        descriptors.double(), labels, backend="dense", **options
    )
    loss, gradient = loss_and_gradient(
        descriptors, labels, backend="triton", tile_size=128, **options
    )
    assert abs(loss - expected_loss) < 1e-6
    assert relative_error(gradient.double(), expected) < 1e-5
    if "variant" in options:
        averages = average_precision(
            descriptors, labels, backend="triton", check_norm=False, **options
        )
        exact = average_precision(descriptors.double(), labels, check_norm=False, **options)
        torch.testing.assert_close(averages, exact, rtol=0, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("shuffled", [False, True])
def test_only_blocks_in_which_classes_meet_are_looked_into(
    shuffled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if there were many blocks: their labels' ranges are compared, and tiles are left out.
    monkeypatch.setattr(host, "_FEW_BLOCKS", 0)
    labels = torch.arange(300, device=DEVICE) // 5
    if shuffled:
        labels = labels[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    descriptors = unit_rows(300, 6, seed=7, dtype=torch.float32).to(DEVICE)
    pairs = Pairs(labels, torch.full_like(labels, -1), False, has_junk=False)
    marks = host.Related(pairs, slice(0, 300)).tensors[2]
    blocks = torch.arange(300, device=DEVICE) // 128
    same = (labels[:, None] == labels).nonzero()
    expected = torch.zeros(3, 3, dtype=torch.uint8, device=DEVICE)
    expected[blocks[same[:, 0]], blocks[same[:, 1]]] = 1
    assert torch.equal(marks, expected)
    assert bool(expected.all()) == shuffled
    options: dict[str, Any] = {"backend": "triton", "tile_size": 128}
    loss, gradient = loss_and_gradient(descriptors, labels, **options)
    expected_loss, exact = loss_and_gradient(descriptors.double(), labels, backend="dense")
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert relative_error(gradient.double(), exact) < 1e-5


def test_image_itself_has_no_slope_but_is_a_positive_if_included() -> None:
    # Shorter than 1, so that the similarity with itself lies inside the range of scores.
    descriptors, labels, _ = batch(30, 5, seed=2)
    results = [
        loss_and_gradient(rows * 0.9, labels, backend=backend, include_self=True)
        for rows, backend in ((descriptors.double(), "dense"), (descriptors, "triton"))
    ]
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    assert relative_error(results[1][1].double(), results[0][1]) < 1e-5


def test_keeping_intervals_changes_no_bit_of_the_gradient() -> None:
    descriptors, labels, ignore = batch(200, 8, seed=3)
    options: dict[str, Any] = {"backend": "triton", "tile_size": 128, "ignore": ignore}
    kept = loss_and_gradient(descriptors, labels, **options)
    recomputed = loss_and_gradient(descriptors, labels, cache_mib=0, **options)
    assert kept[0] == recomputed[0]
    assert torch.equal(kept[1], recomputed[1])


@pytest.mark.parametrize("is_lone", [False, True])
def test_where_no_query_counts_the_gradient_is_0(is_lone: bool) -> None:
    descriptors, labels, _ = batch(30, 8, seed=4)
    lone = torch.arange(30, device=DEVICE)
    options: dict[str, Any] = {} if is_lone else {"query_weights": torch.zeros(30, device=DEVICE)}
    found = loss_and_gradient(descriptors, lone if is_lone else labels, backend="triton", **options)
    assert found[0] == 0
    assert not found[1].any()


def test_labels_with_strides_are_read_as_they_are() -> None:
    descriptors, labels, ignore = batch(30, 8, seed=4)
    strided = torch.stack((labels, ignore), dim=1)
    found = loss_and_gradient(descriptors, strided[:, 0], backend="triton", ignore=strided[:, 1])
    expected = loss_and_gradient(descriptors, labels, backend="tiled", ignore=ignore)
    assert found[0] == pytest.approx(expected[0], abs=1e-6)
    assert relative_error(found[1], expected[1]) < 1e-5


def test_rows_of_two_workers_have_the_gradient_and_diagnostics_of_one_process() -> None:
    descriptors, labels, ignore = batch(200, 6, seed=5)
    weights = torch.linspace(0.1, 2, 200, dtype=torch.float64, device=DEVICE)
    loss = AveragePrecisionLoss(backend="triton", tile_size=128)
    parts = [slice(0, 60), slice(60, 200)]
    given: dict[str, list[Tensor]] = {"sums": [], "slopes": []}

    def score(rows: slice, sums: Tensor | None, slopes: Tensor | None) -> RowScores:
        """One worker; what it would send is noted, what it would get is given."""
        blank = torch.zeros(200, 2, 19, device=DEVICE)

        def add(value: Tensor) -> Tensor:
            given["sums"].append(value)
            return value if sums is None else sums

        def gather(value: Tensor) -> Tensor:
            given["slopes"].append(value)
            return blank if slopes is None else slopes

        return score_own_rows(
            loss,
            descriptors,
            labels,
            rows,
            sum_over_workers=add,
            gather_rows=gather,
            ignore=ignore,
            query_weights=weights,
        )

    for rows in parts:
        score(rows, None, None)
    total = given["sums"][0] + given["sums"][1]
    for rows in parts:
        score(rows, total, None)
    slopes = torch.cat(given["slopes"][2:4])
    scores = [score(rows, total, slopes) for rows in parts]

    options: dict[str, Any] = {"ignore": ignore, "query_weights": weights}
    expected_loss, expected = loss_and_gradient(
        descriptors.double(), labels, backend="dense", **options
    )
    assert [s.loss.item() for s in scores] == pytest.approx([expected_loss] * 2, abs=1e-6)
    gradient = torch.cat([s.gradient for s in scores])
    assert relative_error(gradient.double(), expected) < 1e-5
    plain = AveragePrecisionLoss(backend="tiled")
    plain(descriptors, labels, weights, ignore)
    assert plain.diagnostics is not None
    for found in (s.diagnostics for s in scores):
        assert found.num_queries == plain.diagnostics.num_queries
        assert found.wrong_sign_share == pytest.approx(plain.diagnostics.wrong_sign_share)
        for name in ("positive_histogram", "negative_histogram"):
            torch.testing.assert_close(
                getattr(found, name), getattr(plain.diagnostics, name), rtol=0, atol=1e-3
            )


# Without a GPU: what would be compiled, chosen and refused


@pytest.fixture(scope="module")
def machine_code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the machine code for sm_90 of each kernel holds; triton_to_ptx.py says how it counts."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-m", "tests.triton_to_ptx"]
    done = subprocess.run(
        command, timeout=280, check=True, env=environment, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line.pop("kernel"): line for line in lines}


@pytest.mark.timeout(300)
def test_kernels_compile_for_gpus_without_atomics_and_spills(
    machine_code: dict[str, dict[str, Any]],
) -> None:
    assert len(machine_code) == 8
    for name, code in machine_code.items():
        assert code["atomics"] == 0, name
        assert code["spilled"] == 0, name


@pytest.mark.timeout(300)
@pytest.mark.skipif(
    importlib.util.find_spec("triton") is not None and version("triton") != PINNED_TRITON,
    reason="another Triton than the pinned one makes other machine code",
)
def test_a_score_costs_few_instructions_and_no_barrier(
    machine_code: dict[str, dict[str, Any]],
) -> None:
    most = {
        "bin_rows bins=20 codes=False": 45,
        "bin_rows bins=20 codes=True": 55,
        "bin_columns bins=20": 45,
        "slope_block halves=False": 45,
        "slope_block halves=True": 45,
    }
    assert all(machine_code[name]["instructions a score"] <= limit for name, limit in most.items())
    assert all(machine_code[name]["barriers"] == 0 for name in most)


class Launches(TorchDispatchMode):
    """Stands for kernels and products: counts what would be launched, of torch's own as well."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.contracted = 0, True

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self.launch

    def launch(self, *args: Any, **options: Any) -> Any:
        self.count += 1
        if args:  # of a kernel
            self.contracted &= options.get("enable_fp_fusion", False)
        with _disable_current_modes():
            for value in args:
                if isinstance(value, Tensor) and value.dtype == torch.float64:
                    value.zero_()  # whatever is written there: no number that is none

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = call.overloadpacket.__name__
        self.count += not (call.is_view or name in ("new_empty", "empty", "_unsafe_view"))
        return call(*args, **(kwargs or {}))


@pytest.mark.parametrize("cache_mib", ["auto", 0])
def test_4096_images_take_few_launches(cache_mib: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    launches = Launches()
    for module, name in (
        *((host.binning, name) for name in ("bin_rows", "bin_columns", "bin_related")),
        *((host.sloping, "slope_block"), (host, "mark_related"), (triton_tables, "fill_tables")),
    ):
        monkeypatch.setattr(module, name, launches)
    for name in ("scores", "add"):
        monkeypatch.setattr(Exact, name, lambda _, *args: launches.launch() or args[-1])
    leaf = unit_rows(4096, 4, seed=8, dtype=torch.float32).to(DEVICE).requires_grad_()
    labels = torch.arange(4096, device=DEVICE) // 4
    options: dict[str, Any] = {"backend": "triton", "cache_mib": cache_mib}
    with launches:
        # Without kernels there are no positives; the second pass goes its way all the same.
        average_precision_loss(leaf, labels, **options).backward()
    # 2 products, 5 kernels of ours, 3 for zeros, 1 for sums, 3 to scale, 3 of autograd's.
    assert 2 + 5 < launches.count <= 17
    assert launches.contracted


# Precision of products


@pytest.mark.parametrize("backend", ["tiled", "numba", "triton"])
@pytest.mark.parametrize("cache_mib", [0, "auto"])
def test_bf16x3_has_the_gradient_of_float64(backend: str, cache_mib: Any) -> None:
    if backend == "numba" and DEVICE.type == "cuda":
        pytest.skip("numba is for the CPU")
    descriptors, labels, ignore = batch(200, 21, seed=6)
    expected_loss, expected = loss_and_gradient(
        descriptors.double(), labels, backend="dense", ignore=ignore
    )
    loss, gradient = loss_and_gradient(
        descriptors,
        labels,
        ignore=ignore,
        backend=backend,
        precision="bf16x3",
        cache_mib=cache_mib,
    )
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert relative_error(gradient.double(), expected) < 1e-4
    plain = loss_and_gradient(descriptors, labels, ignore=ignore, backend=backend)[1]
    assert not torch.equal(plain, gradient)


# On a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bf16x3"])
def test_5000_images_on_a_gpu_have_the_gradient_of_plain_torch(precision: str) -> None:
    labels = torch.arange(5000, device="cuda") // 4
    centres = torch.randn(1250, 512, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(5000, 512, generator=torch.Generator().manual_seed(1))
    rows = torch.nn.functional.normalize(centres.cuda()[labels] + noise.cuda(), dim=1)
    expected_loss, expected = loss_and_gradient(rows.double(), labels, backend="tiled")
    options: dict[str, Any] = {"backend": "triton", "precision": precision, "tile_size": 2048}
    first = loss_and_gradient(rows, labels, **options)
    again = loss_and_gradient(rows, labels, **options)
    assert torch.equal(first[1], again[1])
    assert abs(first[0] - expected_loss) < (1e-6 if precision == "float32" else 1e-5)
    assert relative_error(first[1].double(), expected) < 2e-4
