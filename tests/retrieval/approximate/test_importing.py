"""Whether faiss is there, and what is said and done where it is not."""

from __future__ import annotations

import pytest

from apdist.retrieval.approximate import importing
from tests.retrieval.approximate.played import FaissOfGpus, hide_faiss
from tests.retrieval.indexes import small_index


def test_auto_is_flat_where_faiss_has_a_gpu_and_exact_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert small_index("auto").settings["kind"] == "exact"
    monkeypatch.setattr(importing, "import_faiss", lambda: FaissOfGpus)
    assert importing.has_gpu()
    monkeypatch.undo()
    hide_faiss(monkeypatch)
    assert not importing.has_gpu()
    assert small_index("auto").settings["kind"] == "exact"


def test_a_kind_that_needs_faiss_names_the_extras_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_faiss(monkeypatch)
    with pytest.raises(ValueError, match=r"apdist\[faiss-cpu\]' or .*apdist\[faiss-gpu\]'"):
        small_index("hnsw")
