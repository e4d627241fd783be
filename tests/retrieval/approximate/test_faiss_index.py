"""What faiss finds, reads and writes, and what is done where it is missing."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from apdist.retrieval.approximate import building, faiss_index
from apdist.retrieval.index import load_index, save_index
from tests.retrieval.approximate.played import FaissOfGpus, Flat, Quantised, hide_faiss
from tests.retrieval.indexes import clustered, needs_faiss, small_index


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


def test_on_a_gpu_only_tables_of_quantised_indices_have_half_the_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(faiss_index, "import_faiss", lambda: FaissOfGpus)
    for kind in (Quantised, Flat):
        assert faiss_index.FaissIndex(kind()).gpu_index is not None
    assert FaissOfGpus.copied == [("Quantised", True), ("Flat", False)]


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
    found, _ = building.build_faiss("hnsw", descriptors)
    expected = [50 * 8 * 4, found.cpu_index.hnsw.neighbors.size() * 4, 51 * 8]
    assert moved[-3:] == expected
    faiss_index.write_faiss(found, tmp_path / "index")
    moved.clear()
    faiss_index.read_faiss(tmp_path / "index")
    assert moved == expected
    moved.clear()
    building.build_faiss("ivf", descriptors)
    assert not moved


@needs_faiss
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_among_rare_images_faiss_looks_the_farther(kind: str) -> None:
    generator = torch.Generator().manual_seed(3)
    descriptors = torch.nn.functional.normalize(torch.randn(4000, 16, generator=generator), dim=1)
    found, _ = building.build_faiss(kind, descriptors)
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


@needs_faiss
@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_of_fewer_images_than_are_wanted_all_are_found(kind: str) -> None:
    descriptors = clustered(400, 8)
    found, _ = building.build_faiss(kind, descriptors)
    allowed = torch.zeros(400, dtype=torch.bool)
    allowed[[7, 200, 399]] = True
    scores, rows = found.search(descriptors[:5], descriptors, 10, allowed)
    assert rows[:, :3].sort(dim=1).values.tolist() == [[7, 200, 399]] * 5
    assert (rows[:, 3:] == -1).all()
    assert (scores[:, 3:] == -torch.inf).all()
