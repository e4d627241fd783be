"""Official pickles of the revisited sets: what they say, and that they may run no code."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.ground_truth.revisited_pickle import read_pickle
from tests.retrieval.protocols.judgements import BOX, DATABASE, JUDGED, ground_truth


def official_pickle(path: Path, **changes: Any) -> Path:
    """A file of the official layout, its numbers partly numpy's, in the protocol of old."""
    judged = [
        {"bbx": list(BOX), "easy": np.array([0, 1]), "hard": [4], "junk": np.array([3])},
        {"bbx": np.array(BOX, dtype=np.float32), "easy": [np.int64(2)], "hard": [0, 5], "junk": []},
    ]
    content = {
        "gnd": judged,
        "imlist": [f"bild ü {i}" for i in range(6)],
        "qimlist": ["query 0", "query 1"],
    }
    path.write_bytes(pickle.dumps({**content, **changes}, protocol=2))
    return path


def test_an_official_pickle_becomes_the_ground_truth_that_it_holds(tmp_path: Path) -> None:
    found = read_pickle(official_pickle(tmp_path / "gnd.pkl"))
    assert found.database == DATABASE
    assert found.ground_truth == ground_truth(JUDGED)


def test_a_pickle_of_python_2_with_numpy_arrays_is_read(tmp_path: Path) -> None:
    # As numpy 1 and Python 2 wrote np.array([0, 1]): module numpy.core, buffer as a byte string.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I2\ntcnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        b"S'" + b"\\x00" * 8 + b"\\x01" + b"\\x00" * 7 + b"'\ntb"
    )
    judged = b"(dS'bbx'\n(F1.0\nF2.0\nF3.0\nF4.0\nlsS'easy'\n" + array
    judged += b"sS'hard'\n(I2\nlsS'junk'\n(ls"
    names = b"S'imlist'\n(S'a'\nS'b'\nS'c'\nlsS'qimlist'\n(S'q'\nls"
    (tmp_path / "old.pkl").write_bytes(b"(d" + names + b"S'gnd'\n(" + judged + b"ls.")
    found = read_pickle(tmp_path / "old.pkl")
    assert found.database == ("a", "b", "c")
    query = JudgedQuery(key="q", box=(1, 2, 3, 4), easy=("a", "b"), hard=("c",))
    assert found.ground_truth.queries == (query,)


class Hostile:
    """Runs a command when an unrestricted unpickler reads it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def test_a_pickle_that_runs_code_is_refused_before_it_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = official_pickle(tmp_path / "gnd.pkl", imlist=[Hostile(f"touch '{trace}'")])
    with pytest.raises(ValueError, match=r"asks for (posix|nt)\.system"):
        read_pickle(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__", "open"])
def test_no_builtin_function_is_admitted(tmp_path: Path, name: str) -> None:
    (tmp_path / "gnd.pkl").write_bytes(f"c__builtin__\n{name}\n(S'1'\ntR.".encode())
    with pytest.raises(ValueError, match=f"asks for __builtin__.{name}"):
        read_pickle(tmp_path / "gnd.pkl")


def test_an_array_cannot_ask_for_memory_by_its_shape_alone(tmp_path: Path) -> None:
    (tmp_path / "gnd.pkl").write_bytes(b"cnumpy\nndarray\n((I1000000000000\ntS'f8'\ntR.")
    with pytest.raises(ValueError, match="not callable"):
        read_pickle(tmp_path / "gnd.pkl")


def test_a_pickle_without_boxes_or_of_another_layout_is_refused(tmp_path: Path) -> None:
    no_boxes = official_pickle(
        tmp_path / "no boxes.pkl", gnd=[{"easy": [0], "hard": [], "junk": []}] * 2
    )
    with pytest.raises(ValueError, match=r"no boxes.pkl.*'bbx' is missing"):
        read_pickle(no_boxes)
    with pytest.raises(ValueError, match="is no revisited ground truth"):
        read_pickle(official_pickle(tmp_path / "short.pkl", qimlist=["one"]))
    (tmp_path / "cut.pkl").write_bytes((tmp_path / "short.pkl").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"cut.pkl is no revisited ground truth"):
        read_pickle(tmp_path / "cut.pkl")


def test_a_row_that_the_database_lacks_is_refused(tmp_path: Path) -> None:
    path = official_pickle(tmp_path / "short.pkl", imlist=["only one"])
    with pytest.raises(ValueError, match=r"'query 0' judges image 1; .* rows 0 to 0"):
        read_pickle(path)
