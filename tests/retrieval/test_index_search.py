"""Search indexes: exact and approximate search, files, damage, and indexes of another model."""

from __future__ import annotations

import builtins
import functools
import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from apdist.retrieval.index import SearchIndex, build_index, load_index, save_index
from apdist.retrieval.search_index import measure_recall

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


def hide_faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``import faiss`` fail as it does where it is not installed."""
    original = builtins.__import__

    def importer(name: str, *rest: Any, **options: Any) -> Any:
        if name == "faiss":
            raise ModuleNotFoundError("No module named 'faiss'")
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", importer)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_kind_finds_the_nearest_images(kind: str) -> None:
    descriptors, index = clustered(), big_index(kind)
    queries = torch.nn.functional.normalize(descriptors[:50] + 0.02, dim=1)
    scores, rows = index.search(queries, 5)
    expected_scores, expected_rows = (queries @ descriptors.T).topk(5)
    assert scores.shape == rows.shape == (50, 5)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    torch.testing.assert_close(scores, (descriptors[rows] @ queries[:, :, None])[:, :, 0])
    agreement = (rows == expected_rows).float().mean()
    assert agreement == 1.0 if kind in ("exact", "flat") else agreement > 0.95
    if kind in ("exact", "flat"):
        torch.testing.assert_close(scores, expected_scores)


def test_auto_is_flat_with_faiss_and_exact_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert small_index("auto").settings["kind"] == ("flat" if HAS_FAISS else "exact")
    hide_faiss(monkeypatch)
    assert small_index("auto").settings["kind"] == "exact"


def test_a_kind_that_needs_faiss_names_the_extras_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide_faiss(monkeypatch)
    with pytest.raises(ValueError, match=r"apdist\[faiss-cpu\] or apdist\[faiss-gpu\]"):
        small_index("hnsw")


def test_a_small_index_returns_all_its_images() -> None:
    scores, rows = small_index().search(clustered(40, 8)[:3], 100)
    assert scores.shape == (3, 40)
    assert sorted(rows[0].tolist()) == list(range(40))


def test_read_only_arrays_and_half_precision_are_searched() -> None:
    queries = clustered(40, 8)
    frozen = queries.numpy().astype(np.float16)
    frozen.flags.writeable = False
    scores, rows = small_index().search(frozen, 1)
    assert rows[:, 0].tolist() == list(range(40))
    # Cosine similarity, free of what half precision does to the length.
    torch.testing.assert_close(scores, torch.ones(40, 1), atol=1e-6, rtol=0)


def test_no_queries_give_no_results() -> None:
    scores, rows = small_index().search(torch.ones(0, 8), 3)
    assert scores.shape == rows.shape == (0, 3)


@needs_faiss
def test_queries_for_which_faiss_finds_too_few_images_are_searched_exactly() -> None:
    descriptors = clustered()
    index = build_index(descriptors, entries(1000), kind="ivf", model_id="m")
    assert index.faiss_index is not None
    index.faiss_index.cpu_index.nprobe = 1
    _, found = index.faiss_index.search(descriptors[:9], descriptors, 900)
    assert (found < 0).any()
    _, rows = index.search(descriptors[:9], 900)
    assert rows.tolist() == (descriptors[:9] @ descriptors.T).topk(900).indices.tolist()


@needs_faiss
def test_recall_says_how_many_of_the_true_neighbours_are_found() -> None:
    descriptors = clustered()
    index = build_index(descriptors, entries(1000), kind="ivf", model_id="m")
    assert index.settings["recall_at_10"] > 0.9
    assert index.faiss_index is not None
    index.faiss_index.cpu_index.nprobe = 1
    neighbours = (descriptors @ descriptors.T).fill_diagonal_(-1).topk(10).indices
    _, rows = index.search(descriptors, 11)
    slow = np.mean(
        [len({*a} & {*b}) for a, b in zip(rows.tolist(), neighbours.tolist(), strict=True)]
    )
    recall = measure_recall(index)
    assert recall is not None
    assert recall < 0.95
    assert recall == pytest.approx(slow / 10, abs=0.03)


def test_exact_search_has_recall_one_and_a_single_image_has_none() -> None:
    assert small_index().settings["recall_at_10"] == 1.0
    lonely = build_index(torch.ones(1, 1), entries(1), kind="exact", model_id="m")
    assert lonely.settings["recall_at_10"] is None


def test_copies_of_an_image_do_not_lower_the_recall() -> None:
    copies = torch.nn.functional.normalize(torch.ones(30, 4), dim=1)
    index = build_index(copies, entries(30), kind="auto", model_id="m")
    assert index.settings["recall_at_10"] == 1.0


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_saved_index_searches_as_before(tmp_path: Path, kind: str) -> None:
    descriptors, index = clustered(), big_index(kind)
    save_index(index, tmp_path / "deep er" / "ïndex")
    loaded = load_index(tmp_path / "deep er" / "ïndex", model_id="model ü")
    assert loaded.settings == index.settings
    assert loaded.entries.equals(index.entries)
    for before, after in zip(
        index.search(descriptors[:20], 7), loaded.search(descriptors[:20], 7), strict=True
    ):
        assert torch.equal(before, after)
    assert [path.name for path in (tmp_path / "deep er").iterdir()] == ["ïndex"]


def test_the_saved_settings_tell_what_the_index_is(tmp_path: Path) -> None:
    save_index(small_index(), tmp_path / "index")
    settings = json.loads((tmp_path / "index" / "index.json").read_text())
    assert settings["kind"] == "exact"
    assert (settings["count"], settings["dim"]) == (40, 8)
    assert settings["model_id"] == "model A"
    assert settings["recall_at_10"] == 1.0
    assert set(settings["files"]) == {"descriptors.safetensors", "entries.parquet"}


def test_an_index_of_another_model_is_refused_with_both_names(tmp_path: Path) -> None:
    save_index(small_index(), tmp_path / "index")
    with pytest.raises(ValueError, match=r"built with model model A.*come from model model B"):
        load_index(tmp_path / "index", model_id="model B")
    assert len(load_index(tmp_path / "index", model_id=None)) == 40


def test_a_folder_with_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not an empty folder"):
        save_index(small_index(), tmp_path / "index")
    with pytest.raises(ValueError, match="is not an empty folder"):
        save_index(small_index(), tmp_path / "index" / "notes.txt")
    assert [path.name for path in tmp_path.rglob("*")] == ["index", "notes.txt"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    save_index(small_index(), tmp_path / "index")
    assert len(load_index(tmp_path / "index", model_id="model A")) == 40


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path) -> None:
    index = small_index()
    index.settings["model_id"] = object()
    with pytest.raises(TypeError):
        save_index(index, tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["descriptors.safetensors", "entries.parquet"])
def test_damaged_and_missing_files_are_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    save_index(small_index(), tmp_path / "index")
    path = tmp_path / "index" / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged.*build the index again"):
        load_index(tmp_path / "index", model_id="model A")
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing; build the index again"):
        load_index(tmp_path / "index", model_id="model A")


@needs_faiss
def test_a_damaged_faiss_file_is_named(tmp_path: Path) -> None:
    save_index(small_index("flat"), tmp_path / "index")
    (tmp_path / "index" / "index.faiss").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"index.faiss is damaged"):
        load_index(tmp_path / "index", model_id="model A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "does not describe an index"),
        ('{"format": "apdist.index", "format_version": 99}', "format version 99"),
        ('{"format": "apdist.index", "format_version": 1}', "lacks count, dim, files"),
    ],
)
def test_a_damaged_index_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    save_index(small_index(), tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text(text)
    with pytest.raises(ValueError, match=f"index.json.*{message}.*build the index again"):
        load_index(tmp_path / "index", model_id="model A")


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"index.json does not exist"):
        load_index(tmp_path / "absent", model_id="model A")


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


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        (torch.ones(40), r"expected descriptors \(n, d\)"),
        (2 * clustered(40, 8), "40 of 40 descriptors are not of unit length"),
        (torch.zeros(40, 8), "are not of unit length"),
        (torch.full((40, 8), torch.nan), "look for NaN"),
        (clustered(50, 8), "40 entries and 50 descriptors"),
    ],
)
def test_bad_descriptors_are_refused(descriptors: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_index(descriptors, entries(40), kind="exact", model_id="m")


def test_impossible_searches_and_kinds_are_refused() -> None:
    index = small_index()
    with pytest.raises(ValueError, match="at least 1; got 0"):
        index.search(clustered(40, 8), 0)
    with pytest.raises(ValueError, match="holds 8 dimensions, the queries have 4"):
        index.search(clustered(40, 4), 1)
    with pytest.raises(ValueError, match="queries are not of unit length"):
        index.search(torch.ones(1, 8), 1)
    with pytest.raises(ValueError, match="kind must be one of auto, exact"):
        small_index("annoy")
    with pytest.raises(ValueError, match="at least one"):
        build_index(torch.ones(0, 8), entries(0), kind="exact", model_id="m")


@needs_faiss
def test_too_few_images_for_a_product_quantiser_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 624 images, got 40"):
        small_index("ivf_pq")
