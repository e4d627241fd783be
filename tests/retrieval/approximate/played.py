"""A machine without faiss, and a faiss for GPUs that is played."""

from __future__ import annotations

import builtins
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest


def hide_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``import faiss`` fail as it does where it is not installed."""
    original = builtins.__import__

    def importer(name: str, *rest: Any, **options: Any) -> Any:
        if name == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'")
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", importer)


class Quantised:
    """Stands for faiss.IndexIVFPQ where faiss has no GPU."""


class Flat:
    """Stands for another index."""


class FaissOfGpus:
    """What a faiss for GPUs has beyond the one that is tested here."""

    IndexIVFPQ = Quantised
    copied: ClassVar[list[tuple[str, bool]]] = []

    class StandardGpuResources:
        pass

    class GpuClonerOptions:
        useFloat16 = False  # noqa: N815 - faiss's own name

    @staticmethod
    def get_num_gpus() -> int:
        return 1

    @classmethod
    def index_cpu_to_gpu(cls, _resources: object, _gpu: int, index: object, options: Any) -> Any:
        cls.copied.append((type(index).__name__, options.useFloat16))
        return SimpleNamespace()
