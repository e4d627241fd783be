"""Search indexes for the tests."""

from __future__ import annotations

import functools
import importlib.util

import pyarrow as pa
import pytest
import torch
from torch import Tensor

from apdist.retrieval.index import SearchIndex, build_index

HAS_FAISS = importlib.util.find_spec("faiss") is not None
needs_faiss = pytest.mark.skipif(not HAS_FAISS, reason="faiss is an optional extra")
FAISS_KINDS = ["flat", "ivf", "hnsw", "ivf_pq"]
ALL_KINDS = ["exact", *(pytest.param(kind, marks=needs_faiss) for kind in FAISS_KINDS)]


@functools.cache
def big_index(kind: str) -> SearchIndex:
    """Tests that share it only read it."""
    return build_index(clustered(), entries(1000), kind=kind, model_id="model ü")


def clustered(count: int = 1000, dim: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(count // 10, dim, generator=generator).repeat_interleave(10, dim=0)
    noise = torch.randn(count, dim, generator=generator)
    return torch.nn.functional.normalize(centres + 0.5 * noise, dim=1)


def entries(count: int) -> pa.Table:
    return pa.table({"key": [f"bild {i} ü" for i in range(count)], "label": list(range(count))})


def small_index(kind: str = "exact", model_id: str = "model A") -> SearchIndex:
    descriptors = clustered(40, 8)
    return build_index(descriptors, entries(40), kind=kind, model_id=model_id)
