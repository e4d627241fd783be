"""How exactly a GPU computes the network, and whether it gives the same bits each time.

torch's own start multiplies float32 exactly in matrix products and as TF32 in convolutions, so a
transformer is slow and a convolutional network inexact, neither with a word. Here both do what
``training.tf32`` says. The loss has a precision of its own (`apdist.loss.kernels.products`).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from apdist.config.training import TrainingConfig

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""Without it cuBLAS may choose among kernels that add up in different orders."""


@contextmanager
def numerics(options: TrainingConfig) -> Iterator[None]:
    """Let torch compute a network as ``options`` say; afterwards all is as before.

    To be entered before CUDA is first used in this process where ``options.deterministic``: cuBLAS
    reads its variable then. An operation that has no deterministic kernel raises a RuntimeError
    that names it.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    before = matmul.fp32_precision, cudnn.conv.fp32_precision
    flags = cudnn.deterministic, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    matmul.fp32_precision = cudnn.conv.fp32_precision = "tf32" if options.tf32 else "ieee"
    # All images have one size: the fastest kernel is looked for once. It is picked by a clock.
    cudnn.benchmark = not options.deterministic
    if options.deterministic:
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)
        cudnn.deterministic = True
    try:
        yield
    finally:
        matmul.fp32_precision, cudnn.conv.fp32_precision = before
        cudnn.deterministic, cudnn.benchmark = flags[:2]
        if options.deterministic:  # saying so imports torch.compile, for a second
            torch.use_deterministic_algorithms(flags[2])


def in_words(options: TrainingConfig, device: torch.device) -> str:
    """How ``device`` computes a network; nothing of a CPU, which knows one way."""
    if device.type != "cuda":
        return ""
    float32 = "float32 products as TF32" if options.tf32 else "float32"
    precision = f"bf16, the rest {float32}" if options.precision == "bf16" else float32
    return f"{precision}, on {torch.cuda.get_device_name(device)}"
