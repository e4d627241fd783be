"""The precision of products: what is asked for, and the flag of the process."""

from __future__ import annotations

import pytest
import torch

from apdist.config.loss import LossOptions
from apdist.loss.batch import chosen_backend
from apdist.loss.kernels.available import has_triton
from apdist.loss.kernels.products import Exact, float32_products
from apdist.loss.listwise import (
    AveragePrecisionLoss,
)
from apdist.loss.tiles import Tile

pytestmark = pytest.mark.skipif(not has_triton(), reason="triton is not installed")


@pytest.mark.parametrize("pinned", ["none", "tf32"])
def test_products_are_float32_and_the_flag_is_put_back(pinned: str) -> None:
    matmul = torch.backends.cuda.matmul
    outside = matmul.fp32_precision, torch.backends.fp32_precision
    try:
        torch.backends.fp32_precision, matmul.fp32_precision = "tf32", pinned
        with pytest.raises(KeyError, match="ieee"):
            fail_within_products()
        assert matmul.fp32_precision == "tf32"
        with float32_products(torch.device("cpu")):
            assert matmul.fp32_precision == "tf32"
        # What the process says later is heard, unless it was pinned before.
        torch.backends.fp32_precision = "ieee"
        assert matmul.fp32_precision == "ieee"
    finally:
        torch.backends.fp32_precision = outside[1]
        matmul.fp32_precision = outside[0]


def fail_within_products() -> None:
    with float32_products(torch.device("cuda")):
        raise KeyError(torch.backends.cuda.matmul.fp32_precision)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 128, 129, 150, 191, 257, 700])
def test_a_square_on_the_diagonal_has_all_products_and_is_symmetric(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    descriptors = torch.randn(size + 9, 5, generator=generator, dtype=torch.float64)
    part = slice(4, 4 + size)
    room = torch.full((size, size + 3), torch.nan, dtype=torch.float64)[:, :size]
    found = Exact(descriptors).scores(Tile(part, part, False), room)
    torch.testing.assert_close(found, descriptors[part] @ descriptors[part].T)
    assert torch.equal(found, found.T)


def test_bf16x3_is_refused_where_it_would_not_be_meant() -> None:
    options = LossOptions(precision="bf16x3")
    with pytest.raises(ValueError, match='needs torch.float32 .*, got torch.float64 and .*"auto"'):
        chosen_backend(options, torch.ones(2, 1).double())
    chosen_backend(options, torch.ones(2, 1))
    with pytest.raises(ValueError, match='backend "dense"'):
        chosen_backend(LossOptions(precision="bf16x3", backend="dense"), torch.ones(2, 1))
    with pytest.raises(ValueError, match="precision must be one of float32, bf16x3, got 'tf32'"):
        AveragePrecisionLoss(precision="tf32")
