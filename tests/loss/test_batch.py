"""What a batch may be: shapes, types, lengths and options, or a refusal in words."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.loss.listwise import (
    average_precision_loss,
)
from tests.reference import (
    average_precision_of_batch,
    mean_loss,
    unit_rows,
)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_with_one_warning(
    dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    descriptors = unit_rows(20, 8, seed=15).to(dtype).requires_grad_()
    labels = torch.arange(20) // 4
    exact = descriptors.detach().float().requires_grad_()
    average_precision_loss(exact, labels, check_norm=False).backward()
    from apdist.loss.batch import _warn_of_upcast

    _warn_of_upcast.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            descriptors.grad = None
            average_precision_loss(descriptors, labels, check_norm=False).backward()
    assert len(caplog.records) == 1
    assert exact.grad is not None
    assert torch.equal(descriptors.grad, exact.grad.to(dtype))


GOOD = unit_rows(6, 4, seed=17)


LABELS = torch.arange(6) // 2


@pytest.mark.parametrize(
    ("descriptors", "labels", "options", "message"),
    [
        (GOOD[0], LABELS, {}, r"shape \(n, d\)"),
        (GOOD.long(), LABELS, {}, "floating point"),
        (GOOD.index_fill(0, torch.tensor([3]), torch.nan), LABELS, {}, "NaN.*row 3"),
        (GOOD.index_fill(0, torch.tensor([2, 4]), -torch.inf), LABELS, {}, "2 rows.*row 2"),
        (GOOD * torch.tensor([1, 1, 1, 1, 1.01, 2])[:, None], LABELS, {}, "norm 1.01 at row 4"),
        (GOOD, LABELS[:5], {}, r"labels must have shape \(6,\)"),
        (GOOD, LABELS[:, None], {}, r"labels must have shape \(6,\)"),
        (GOOD, LABELS.double(), {}, "labels must be integers"),
        (GOOD, LABELS.bool(), {}, "labels must be integers"),
        (GOOD, LABELS.to("meta"), {}, "labels must be on cpu"),
        (GOOD, LABELS, {"ignore": LABELS[:4]}, r"ignore must have shape \(6,\)"),
        (GOOD, LABELS, {"query_weights": GOOD[:, 0]}, "query_weights.*not negative"),
        (GOOD, LABELS, {"query_weights": LABELS}, "query_weights must be floating point"),
        (GOOD, LABELS, {"query_weights": torch.ones(5)}, "query_weights must have shape"),
        (GOOD, LABELS, {"num_bins": 1}, "num_bins must be at least 2, got 1"),
        (GOOD, LABELS, {"num_bins": 2.5}, "num_bins must be of type int, got 2.5"),
        (GOOD, LABELS, {"min_score": 1.0}, "min_score 1.0 must be below max_score 1.0"),
        (GOOD, LABELS, {"max_score": math.nan}, "must be below max_score nan, both finite"),
        (GOOD, LABELS, {"variant": "map"}, "variant must be one of ap, .*'map'"),
        (GOOD, LABELS, {"backend": "cuda"}, "backend must be one of .*'cuda'"),
        (GOOD, LABELS, {"backend": "triton"}, "triton"),
        (GOOD, LABELS, {"tile_size": 0}, "tile_size must be at least 1"),
        (GOOD, LABELS, {"cache_mib": -1}, "cache_mib must be at least 0"),
    ],
)
def test_bad_input_is_refused_with_what_came(
    descriptors: Tensor, labels: Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision_loss(descriptors, labels, **options)


def test_rows_of_any_length_pass_without_the_check() -> None:
    loss = average_precision_loss(GOOD * 0.5, LABELS, check_norm=False)
    expected = mean_loss(average_precision_of_batch(GOOD * 0.5, LABELS))
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_half_precision_vectors_of_few_numbers_are_of_unit_length() -> None:
    rounded = torch.nn.functional.normalize(torch.randn(200, 8), dim=1).bfloat16()
    assert 0 < float(average_precision_loss(rounded, torch.arange(200) // 4)) < 1
    with pytest.raises(ValueError, match="must have unit length"):
        average_precision_loss(1.1 * rounded, torch.arange(200) // 4)


@pytest.mark.parametrize(
    ("descriptors", "labels", "options", "message"),
    [
        (GOOD, LABELS, {"min_score": (0,)}, "min_score must be of type float"),
        (GOOD, LABELS, {"check_norm": None}, "check_norm must be of type bool"),
        (GOOD, LABELS, {"tile_size": 2.5}, "tile_size must be of type int, got 2.5"),
        (GOOD, LABELS, {"cache_mib": "a"}, "cache_mib must be of type int or auto, got 'a'"),
        (GOOD, LABELS.tolist(), {}, "labels must be a tensor, got list"),
        (GOOD.numpy(), LABELS, {}, "descriptors must be a tensor"),
    ],
)
def test_arguments_of_another_type_are_refused_in_words(
    descriptors: Any, labels: Any, options: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        average_precision_loss(descriptors, labels, **options)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_labels_may_be_of_any_integers(dtype: torch.dtype) -> None:
    rows, labels = torch.eye(4), torch.tensor([3, 3, 1, 1])
    found = average_precision_loss(rows, labels.to(dtype))
    assert found == average_precision_loss(rows, labels)
