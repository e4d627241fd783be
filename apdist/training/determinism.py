"""The same bits on a GPU each time, at the price of slower kernels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without it cuBLAS may choose among kernels that add up in different orders."""


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch use only kernels that give the same bits each time; nothing if not ``wanted``.

    To be entered before CUDA is first used in this process, as cuBLAS reads its variable then. An
    operation that has no such kernel raises a RuntimeError that names it.
    """
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault(WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    # A benchmark picks the fastest kernel by a clock, so another one each time.
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before[:2]
        torch.use_deterministic_algorithms(before[2])
