"""MATLAB files as SciPy writes them, and damaged ones."""

import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from apdist.data.preparing.published.matlab import read_matlab

CONTENT: dict[str, Any] = {
    "numbers": np.array([[1.5, -2.0], [300.0, 4.0]]),
    "small": np.uint8(7),
    "text": "Grüße 東",
    "cells": np.array(["a", "Ä", "a longer text than four bytes"], dtype=object),
    "struct": {"path": "car_ims/000001.jpg", "class": np.int16(-3), "none": np.empty((0, 0))},
    "structs": np.array([("x", 1), ("y", 2)], dtype=[("name", object), ("number", object)]),
}


@pytest.mark.parametrize("packed", [True, False])
def test_numbers_texts_cells_and_structs_are_read(tmp_path: Path, packed: bool) -> None:
    savemat(tmp_path / "a.mat", CONTENT, do_compression=packed)
    assert read_matlab(tmp_path / "a.mat") == {
        "numbers": [1.5, 300, -2, 4],
        "small": [7],
        "text": "Grüße 東",
        "cells": ["a", "Ä", "a longer text than four bytes"],
        "struct": [{"path": "car_ims/000001.jpg", "class": [-3], "none": []}],
        "structs": [{"name": "x", "number": [1]}, {"name": "y", "number": [2]}],
    }


def test_a_file_of_a_machine_with_the_other_order_of_bytes_is_read(tmp_path: Path) -> None:
    # As a big-endian MATLAB writes x = 258: flags, dimensions, name and numbers.
    matrix = bytes.fromhex(
        "00000006 00000008 00000006 00000000"
        "00000005 00000008 00000001 00000001"
        "00010001 78000000"
        "00000003 00000002 01020000 00000000"
    )
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    (tmp_path / "a.mat").write_bytes(
        header + bytes.fromhex("0000000e") + len(matrix).to_bytes(4, "big") + matrix
    )
    assert read_matlab(tmp_path / "a.mat") == {"x": [258]}


@pytest.mark.parametrize("packed", [True, False])
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, CONTENT, do_compression=packed)
    data = path.read_bytes()
    rng = random.Random(0)
    refusals = 0
    for _ in range(200):
        at = rng.randrange(124, len(data))
        changed = data[:at] if rng.random() < 0.3 else data[:at] + rng.randbytes(4) + data[at + 4 :]
        path.write_bytes(changed)
        try:
            read_matlab(path)
        except ValueError:
            refusals += 1
    assert refusals > 50


def test_a_variable_that_unpacks_to_very_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apdist.data.preparing.published.matlab.MOST_BYTES", 1 << 16)
    packed = zlib.compress(bytes(1 << 20))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    size = len(packed).to_bytes(4, "little")
    (tmp_path / "a.mat").write_bytes(header + (15).to_bytes(4, "little") + size + packed)
    with pytest.raises(ValueError, match="has no end, or is too large"):
        read_matlab(tmp_path / "a.mat")


def test_a_file_of_version_7_3_is_told_how_to_be_saved(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF")
    with pytest.raises(ValueError, match="is no MATLAB file of version 5 to 7.2; save it with -v7"):
        read_matlab(tmp_path / "a.mat")
