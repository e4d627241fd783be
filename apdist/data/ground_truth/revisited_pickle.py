"""The official files of the revisited Oxford and Paris sets, which are pickles.

Those can run any code of whoever made them: containers, strings, numbers and numpy arrays are
admitted, and nothing else.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery


@dataclass(frozen=True, kw_only=True)
class RevisitedSet:
    """What such a file says; images have the names that it gives them."""

    database: tuple[str, ...]
    """Names of the database images, in the order of the file."""
    ground_truth: GroundTruth
    """Its judged queries."""


def read_pickle(path: Path | str) -> RevisitedSet:
    """Read an official ``gnd_*.pkl``: names ``imlist``, ``qimlist`` and judgements ``gnd``.

    Raises:
        ValueError: the file asks for anything but plain data, lacks a part (a query without its box
            ``bbx`` too: an uncropped query set inflates results), or contradicts itself.
    """
    try:
        with Path(path).open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
        database = tuple(map(str, content["imlist"]))
        judged = zip(content["qimlist"], content["gnd"], strict=True)
        queries = tuple(_query(str(image), entry, database) for image, entry in judged)
        ground_truth = GroundTruth(protocol="revisited", queries=queries)
        return RevisitedSet(database=database, ground_truth=ground_truth)
    # A damaged pickle fails with whatever its last readable opcode ran into.
    except Exception as error:
        raise ValueError(f"{path} is no revisited ground truth: {_name(error)}") from error


class _PlainUnpickler(pickle.Unpickler):
    """Admits only what rebuilds numpy arrays and scalars; plain containers need no class."""

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 renamed numpy.core to numpy._core.
        found = _ADMITTED.get((module.replace("numpy.core", "numpy._core"), name))
        if found is None:
            raise ValueError(f"it asks for {module}.{name}, which plain data does not need")
        return found


def _empty_array(_subtype: Any, _shape: Any, _dtype: Any) -> np.ndarray[Any, Any]:
    """The array that the pickle then fills; its shape and dtype come with the contents."""
    return np.empty(0, dtype=np.int8)


def _latin1(text: str, _encoding: str = "latin1") -> bytes:
    """Bytes that protocol 2 wrote as text."""
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Any] = {
    # Only ever an argument of _reconstruct; the class itself would allocate any shape asked for.
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("_codecs", "encode"): _latin1,
}


def _query(image: str, entry: Any, database: tuple[str, ...]) -> JudgedQuery:
    left, top, right, bottom = (float(edge) for edge in entry["bbx"])
    lists = {}
    for name in ("easy", "hard", "junk"):
        rows = [int(row) for row in entry[name]]
        for row in rows:
            if not 0 <= row < len(database):
                raise ValueError(
                    f"query {image!r} judges image {row}; "
                    f"the database has rows 0 to {len(database) - 1}"
                )
        lists[name] = tuple(database[row] for row in rows)
    return JudgedQuery(key=image, box=(left, top, right, bottom), **lists)


def _name(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
