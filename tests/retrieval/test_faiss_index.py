"""What faiss does, and what is done where it is missing."""

from __future__ import annotations

import builtins
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pyarrow as pa
import pytest
import torch
from torch.nn.functional import normalize

from apdist.retrieval import faiss_index
from apdist.retrieval.index import build_index, load_index, save_index
from apdist.retrieval.ranking import nearest_rows
from tests.retrieval.indexes import clustered, needs_faiss, small_index


def hide_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``import faiss`` fail as it does where it is not installed."""
    original = builtins.__import__

    def importer(name: str, *rest: Any, **options: Any) -> Any:
        if name == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'")
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", importer)


def test_auto_is_flat_where_faiss_has_a_gpu_and_exact_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert small_index("auto").settings["kind"] == "exact"
    monkeypatch.setattr(faiss_index, "import_faiss", lambda: FaissOfGpus)
    assert faiss_index.has_gpu()
    monkeypatch.undo()
    hide_faiss(monkeypatch)
    assert not faiss_index.has_gpu()
    assert small_index("auto").settings["kind"] == "exact"


def test_a_kind_that_needs_faiss_names_the_extras_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_faiss(monkeypatch)
    with pytest.raises(ValueError, match=r"apdist\[faiss-cpu\] or apdist\[faiss-gpu\]"):
        small_index("hnsw")


@needs_faiss
def test_a_damaged_faiss_file_is_named(tmp_path: Path) -> None:
    save_index(small_index("flat"), tmp_path / "index")
    [path] = (tmp_path / "index").glob("generation-*/index.faiss")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"index.faiss is damaged"):
        load_index(tmp_path / "index", model_id="model A")


@needs_faiss
def test_a_faiss_index_is_searched_exactly_where_faiss_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save_index(small_index("hnsw"), tmp_path / "index")
    hide_faiss(monkeypatch)
    with caplog.at_level(logging.WARNING):
        index = load_index(tmp_path / "index", model_id="model A")
    assert "searching exactly" in caplog.text
    assert index.search(clustered(40, 8)[:4], 1)[1][:, 0].tolist() == [0, 1, 2, 3]


@needs_faiss
def test_too_few_images_for_a_product_quantiser_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 624 images, got 40"):
        small_index("ivf_pq")


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


def test_on_a_gpu_only_tables_of_quantised_indices_have_half_the_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faiss_index, "import_faiss", lambda: FaissOfGpus)
    for kind in (Quantised, Flat):
        assert faiss_index.FaissIndex(kind()).gpu_index is not None
    assert FaissOfGpus.copied == [("Quantised", True), ("Flat", False)]


@needs_faiss
@pytest.mark.parametrize("kind", ["ivf", "hnsw", "ivf_pq"])
def test_an_index_looks_as_far_as_its_descriptors_demand(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss_index, "_HNSW_LINKS", 4)  # with more, few images are never hard
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
def test_what_a_search_in_a_graph_jumps_about_in_lies_in_huge_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[int] = []

    def note(address: int, num_bytes: int) -> None:
        assert address
        moved.append(num_bytes)

    monkeypatch.setattr(faiss_index, "into_huge_pages", note)
    descriptors = normalize(torch.randn(50, 8), dim=1)
    found, _ = faiss_index.build_faiss("hnsw", descriptors)
    expected = [50 * 8 * 4, found.cpu_index.hnsw.neighbors.size() * 4, 51 * 8]
    assert moved[-3:] == expected
    faiss_index.write_faiss(found, tmp_path / "index")
    moved.clear()
    faiss_index.read_faiss(tmp_path / "index")
    assert moved == expected
    moved.clear()
    faiss_index.build_faiss("ivf", descriptors)
    assert not moved


@needs_faiss
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_among_rare_images_faiss_looks_the_farther(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    descriptors = torch.nn.functional.normalize(torch.randn(4000, 16, generator=generator), dim=1)
    found, _ = faiss_index.build_faiss(kind, descriptors)
    if kind == "ivf":
        found.cpu_index.nprobe = 4
    else:
        found.cpu_index.hnsw.efSearch = 16
    allowed = torch.arange(4000) % 8 == 0
    scores = descriptors[:100] @ descriptors.T

    def recall(rows: torch.Tensor, right: torch.Tensor) -> float:
        return float((rows[:, :, None] == right[:, None, :]).any(dim=2).double().mean())

    _, of_all = found.search(descriptors[:100], descriptors, 10)
    _, of_few = found.search(descriptors[:100], descriptors, 10, allowed)
    few = scores.masked_fill(~allowed, -2).topk(10).indices
    assert recall(of_few, few) > recall(of_all, scores.topk(10).indices) - 0.05
