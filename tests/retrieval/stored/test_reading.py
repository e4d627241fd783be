"""Files of an index: mapped, not read; each that is not what was written is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from apdist.retrieval.index import load_index, save_index
from apdist.retrieval.stored import reading
from apdist.retrieval.stored.reading import mapped, read_index
from tests.retrieval.indexes import small_index


def mapped_files() -> str:
    return Path("/proc/self/maps").read_text()


def test_descriptors_on_a_disk_are_mapped(tmp_path: Path) -> None:
    save_index(small_index(), tmp_path / "index")
    index = load_index(tmp_path / "index", model_id=None)
    [file] = tmp_path.glob("index/*/descriptors.safetensors")
    assert str(file) in mapped_files()
    file.unlink()
    assert index.descriptors.equal(small_index().descriptors)


def test_large_files_are_checked_by_size_unless_all_is_to_be_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CHECKED_BYTES", 100)
    save_index(small_index(), tmp_path / "index")
    [file] = tmp_path.glob("index/*/descriptors.safetensors")
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    read_index(str(tmp_path / "index"))
    with pytest.raises(
        ValueError,
        match=r"descriptors\.safetensors is damaged: expected the checksum \d+, got \d+;",
    ):
        read_index(str(tmp_path / "index"), check_all=True)
    file.write_bytes(content[:-4])
    with pytest.raises(
        ValueError, match=r"descriptors\.safetensors is damaged: expected \d+ bytes, got \d+;"
    ):
        read_index(str(tmp_path / "index"))


def test_settings_that_tell_of_other_files_are_refused(tmp_path: Path) -> None:
    save_index(small_index(), tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    settings = json.loads(path.read_text())
    for change, message in (
        ({"count": 41}, "expected 41 descriptors of 8 numbers, got (40, 8) and 40 entries"),
        ({"generation": "../elsewhere"}, "names no generation"),
        ({"files": {}}, "descriptors.safetensors is damaged: index.json does not tell of it;"),
    ):
        path.write_text(json.dumps(settings | change))
        with pytest.raises(ValueError, match=re.escape(message)):
            read_index(str(tmp_path / "index"))


def test_a_file_of_no_descriptors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing at all")
    with pytest.raises(ValueError, match="x is damaged"):
        mapped(tmp_path / "x")
