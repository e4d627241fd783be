"""What faiss learns and links, and how far its searches look."""

from __future__ import annotations

import pyarrow as pa
import pytest
import torch
from torch.nn.functional import normalize

from apdist.retrieval.approximate import building
from apdist.retrieval.index import build_index
from apdist.retrieval.ranking import nearest_rows
from tests.retrieval.indexes import big_index, needs_faiss, small_index


@needs_faiss
def test_too_few_images_for_a_product_quantiser_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 624 images, got 40"):
        small_index("ivf_pq")


@needs_faiss
@pytest.mark.parametrize("kind", ["ivf", "hnsw", "ivf_pq"])
def test_an_index_looks_as_far_as_its_descriptors_demand(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_HNSW_LINKS", 4)  # with more, few images are never hard
    generator = torch.Generator().manual_seed(0)
    # Nothing lies in groups: neighbours are in as many lists as there are.
    spread = normalize(torch.randn(3000, 96, generator=generator), dim=1)
    entries = pa.table({"key": [str(row) for row in range(3000)]})
    index = build_index(spread, entries, kind=kind, model_id="model A")
    least = {"ivf": "num_probes", "hnsw": "search_width", "ivf_pq": "num_probes"}[kind]
    # Narrow searches find less than half of them.
    assert index.settings[least] > (16 if kind == "hnsw" else 4)
    assert index.settings["recall_at_10"] >= 0.95  # 0.97 of another sample
    unseen = normalize(torch.randn(200, 96, generator=generator), dim=1)
    scores, _ = index.search(unseen, 10)
    nearest, _ = nearest_rows(unseen, spread, 10)
    assert (scores >= nearest[:, -1:]).double().mean() > 0.93


@needs_faiss
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_index_looks_no_farther_than_its_descriptors_demand(kind: str) -> None:
    index = big_index(kind)
    far = {"ivf": index.settings.get("num_lists", 0), "hnsw": 1024}[kind]
    assert index.settings["num_probes" if kind == "ivf" else "search_width"] <= far / 2
