"""Which kernels are chosen, and which are refused with the reason."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from apdist.config.loss import LossOptions
from apdist.loss.batch import chosen_backend
from apdist.loss.kernels import available
from apdist.loss.kernels.available import MAX_BINS_OF_TRITON, has_triton
from apdist.loss.listwise import (
    average_precision_loss,
)

pytestmark = pytest.mark.skipif(not has_triton(), reason="triton is not installed")


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_falling_back_to_plain_torch_on_a_gpu_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(available, "_can_build", lambda: False)
    available.warn_of_plain_torch.cache_clear()
    with FakeTensorMode():
        single, double = (torch.empty(4, 3, device="cuda", dtype=t) for t in (None, torch.float64))
    for _ in range(2):
        assert chosen_backend(LossOptions(), single) == "tiled"
    assert chosen_backend(LossOptions(), double) == "tiled"
    found = [record.message for record in caplog.records]
    assert len(found) == 2
    assert found[0].endswith("no C compiler or no Python.h; install gcc and python3-dev")
    assert "torch.float64" in found[1]
    # On a CPU plain torch is a choice, not a loss.
    assert chosen_backend(LossOptions(backend="tiled"), torch.empty(4, 3)) == "tiled"
    assert len(caplog.records) == 2


def test_auto_takes_triton_on_cuda_for_float32_only() -> None:
    with FakeTensorMode():
        single, double = (torch.empty(4, 3, device="cuda", dtype=t) for t in (None, torch.float64))
    assert chosen_backend(LossOptions(), single) == "triton"
    assert chosen_backend(LossOptions(), double) == "tiled"
    many = LossOptions(num_bins=MAX_BINS_OF_TRITON + 1)
    assert chosen_backend(many, single) == "tiled"
    assert chosen_backend(LossOptions(), torch.empty(4, 3)) != "triton"


def test_triton_is_refused_on_the_cpu_outside_its_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    message = r'needs .* torch.float32 descriptors on a CUDA device, got .* on cpu; use .*"auto"'
    with pytest.raises(ValueError, match=message):
        average_precision_loss(torch.ones(2, 1), torch.zeros(2).long(), backend="triton")


@pytest.mark.parametrize(
    ("dtype", "num_bins", "message"),
    [
        (torch.float64, 20, "got 20 bins and torch.float64"),
        (torch.float32, 513, "at most 512 bins.*got 513"),
    ],
)
def test_triton_is_refused_for_what_its_kernels_do_not_do(
    dtype: torch.dtype, num_bins: int, message: str
) -> None:
    descriptors = torch.ones(2, 1, dtype=dtype, device=DEVICE)
    with pytest.raises(ValueError, match=message):
        average_precision_loss(
            descriptors, descriptors[:, 0].long(), backend="triton", num_bins=num_bins
        )
