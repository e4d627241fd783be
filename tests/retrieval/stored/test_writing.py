"""Files of an index that come part by part: the same as all at once, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from apdist.retrieval.index import build_index, load_index, save_index, write_index
from apdist.retrieval.stored import writing
from apdist.retrieval.stored.writing import Part, checked_parts
from tests.retrieval.indexes import ALL_KINDS, clustered, entries


def parts(sizes: list[int]) -> Iterator[Part]:
    start = 0
    for size in sizes:
        yield clustered()[start : start + size], entries(1000).slice(start, size)
        start += size


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_an_index_that_comes_in_parts_is_the_one_that_comes_at_once(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_ROWS_PER_GROUP", 100)
    about = {"describing": {"size": 7}}
    settings = write_index(
        parts([1, 499, 0, 300, 200]), tmp_path / "parts", kind=kind, model_id="m", about=about
    )
    whole = build_index(clustered(), entries(1000), kind=kind, model_id="m")
    assert settings == {**whole.settings, **about}
    found = load_index(tmp_path / "parts", model_id="m")
    assert found.settings == settings
    assert found.entries.equals(entries(1000))
    for one, other in zip(
        found.search(clustered()[:9], 5), whole.search(clustered()[:9], 5), strict=True
    ):
        assert torch.equal(one, other)
    [file] = tmp_path.glob("parts/generation-*/descriptors.safetensors")
    assert torch.equal(load_file(file)["descriptors"], whole.descriptors)


def test_names_of_few_kinds_have_their_own_dictionary_in_each_part(tmp_path: Path) -> None:
    def table(names: list[str]) -> pa.Table:
        return pa.table({"class": pa.array(names).dictionary_encode()})

    given = [
        (clustered()[:2], table(["a", "b"])),
        (clustered()[2:4], table(["c", "b"])),
        (clustered()[4:5], pa.table({"class": ["d"]})),
    ]
    write_index(given, tmp_path / "i", model_id="m")
    found = load_index(tmp_path / "i", model_id="m").entries["class"]
    assert found.to_pylist() == ["a", "b", "c", "b", "d"]
    assert pa.types.is_dictionary(found.type)


def test_descriptors_in_half_precision_are_brought_to_unit_length(tmp_path: Path) -> None:
    halves = clustered(40, 8).numpy().astype(np.float16)
    write_index([(halves, entries(40))], tmp_path / "i", model_id="m")
    found = load_index(tmp_path / "i", model_id="m").descriptors
    torch.testing.assert_close(found.norm(dim=1), torch.ones(40), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "expected one descriptor or more, got none"),
        ([(clustered(40, 8), entries(39))], "got 39 entries and 40 descriptors"),
        ([(2 * clustered(40, 8), entries(40))], "not of unit length"),
        (
            [(clustered(40, 8), entries(40)), (clustered(40, 4), entries(40))],
            "expected descriptors of 8 numbers as those before, got 4",
        ),
        (
            [(clustered(40, 8), entries(40)), (clustered(40, 8), entries(40))],
            "40 keys come again, the first 'bild 0 ü'; an index holds an image once",
        ),
        (
            [
                (clustered(40, 8), entries(40).append_column("x", pa.nulls(40))),
                (clustered(40, 8), entries(40).append_column("y", pa.nulls(40))),
            ],
            "have the column y, those before have key, label, x only",
        ),
        (
            [(clustered(40, 8), entries(40).append_column("model", [["m"] * 39 + ["other"]]))],
            "entries of model other in an index of model m",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_and_leave_nothing(
    tmp_path: Path, given: list[Part], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_index(given, tmp_path / "index", model_id="m")
    assert not list(tmp_path.iterdir())


def test_different_keys_of_one_hash_are_different(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def colliding(keys: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array([len(key) for key in keys.to_pylist()])

    monkeypatch.setattr(writing, "_hashes", colliding)
    save_index(build_index(clustered(40, 8), entries(40), model_id="m"), tmp_path / "i")
    twice = entries(40).set_column(0, "key", [[f"{i % 39}" for i in range(40)]])
    with pytest.raises(ValueError, match="a key comes again, the first '0'"):
        write_index([(clustered(40, 8), twice)], tmp_path / "j", model_id="m")


def test_one_part_alone_is_taken_and_what_is_no_part_is_refused() -> None:
    part = torch.eye(5), entries(5)
    for given in (part, [part], iter([list(part)])):
        [(descriptors, table)] = checked_parts(given)
        assert descriptors is part[0]
        assert table is part[1]
    with pytest.raises(ValueError, match="parts must be pairs of descriptors and entries, got 3"):
        list(checked_parts(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a part is a pair of descriptors and entries"):
        list(checked_parts([part[0]]))  # type: ignore[list-item]
