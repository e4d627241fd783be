"""Saved indexes: the same after loading, damage, and those of another model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from apdist.retrieval import index as indexes
from apdist.retrieval.index import load_index, save_index
from tests.retrieval.indexes import ALL_KINDS, big_index, clustered, small_index


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
    assert {path.name for path in (tmp_path / "index").iterdir()} == {
        "index.json",
        settings["generation"],
    }


def test_an_index_of_another_model_is_refused_with_both_names(tmp_path: Path) -> None:
    save_index(small_index(), tmp_path / "index")
    with pytest.raises(ValueError, match=r"built with model model A.*come from model model B"):
        load_index(tmp_path / "index", model_id="model B")
    assert len(load_index(tmp_path / "index", model_id=None)) == 40


def test_a_folder_with_content_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="exists and is not empty; give another"):
            save_index(small_index(), tmp_path / "index", overwrite=overwrite)
    with pytest.raises(ValueError, match="cannot be written"):
        save_index(small_index(), tmp_path / "index" / "notes.txt")
    assert [path.name for path in tmp_path.rglob("*")] == ["index", "notes.txt"]


def test_what_is_no_index_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="index must be .*make one with build_index"):
        save_index([], tmp_path / "index")  # type: ignore[arg-type]
    assert not (tmp_path / "index").exists()


def test_an_index_that_is_saved_in_parts_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "_ROWS_AT_ONCE", 7)
    saved = small_index()
    save_index(saved, tmp_path)
    loaded = load_index(tmp_path, model_id="model A")
    assert loaded.descriptors.equal(saved.descriptors)
    assert loaded.entries.equals(saved.entries)


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
    [path] = (tmp_path / "index").glob(f"generation-*/{name}")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged.*build the index again"):
        load_index(tmp_path / "index", model_id="model A")
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name} is missing; build the index again"):
        load_index(tmp_path / "index", model_id="model A")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "does not describe an index"),
        ('{"format": "apdist.index", "format_version": 99}', "format version 99"),
        ('{"format": "apdist.index", "format_version": 2}', "lacks count, dim, files"),
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
