"""Precision of the float32 matrix products on a GPU: exact or TF32, and nothing else's flags."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# torch before 2.9 has one switch; later versions refuse to read it once the newer one was used.
_HAS_NAMES = hasattr(torch.backends.cuda.matmul, "fp32_precision")


@contextmanager
def product_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Run matrix products on a CUDA ``device`` in "float32" or "tf32", whatever the process's flag.

    The flag is the process's: another thread's products meanwhile have the same precision.
    """
    wanted = precision == "tf32"
    if device.type != "cuda" or _is_tf32() == wanted:
        yield
        return
    before = _flag()
    _set_flag(_value(wanted))
    try:
        yield
    finally:
        _set_flag(before)


def _is_tf32() -> bool:
    return _flag() == _value(True)


def _value(tf32: bool) -> str | bool:
    if not _HAS_NAMES:
        return tf32
    return "tf32" if tf32 else "ieee"


def _flag() -> str | bool:
    matmul = torch.backends.cuda.matmul
    flag: str | bool = matmul.fp32_precision if _HAS_NAMES else matmul.allow_tf32
    return flag


def _set_flag(value: str | bool) -> None:
    setattr(torch.backends.cuda.matmul, "fp32_precision" if _HAS_NAMES else "allow_tf32", value)
