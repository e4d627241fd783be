"""Ground truth of the revisited Oxford and Paris sets: JSON of ours, and conversion of the pickles.

The official files are pickles, which can run any code of whoever made them: `convert_pickle` admits
containers, strings, numbers and numpy arrays, and nothing else.
"""

from __future__ import annotations

import json
import math
import os
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

_FORMAT = "apdist.revisited"
_JUDGEMENTS = ("easy", "hard", "junk")
_REMEDY = "convert the official file again with convert_pickle"


@dataclass(frozen=True, kw_only=True)
class RevisitedQuery:
    """A query and what the annotators said of the database; images are rows of the database."""

    image: str
    """Name of the query image."""
    box: tuple[float, float, float, float]
    """Left, upper, right, lower in pixels: the part of the image that is the query."""
    easy: tuple[int, ...]
    """Positives that are easy to find."""
    hard: tuple[int, ...]
    """Positives that are hard to find."""
    junk: tuple[int, ...]
    """Images that are neither right nor wrong: removed from the ranked list."""

    def __post_init__(self) -> None:
        left, upper, right, lower = self.box
        if not (all(map(math.isfinite, self.box)) and left < right and upper < lower):
            raise ValueError(
                f"query {self.image!r}: box must be left < right, upper < lower; got {self.box}"
            )
        judged = self.easy + self.hard + self.junk
        if len(set(judged)) != len(judged):
            raise ValueError(f"query {self.image!r}: an image is judged twice in easy, hard, junk")


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Names of the database images, in the order of their descriptors, and the judged queries."""

    database: tuple[str, ...]
    """Names of the database images."""
    queries: tuple[RevisitedQuery, ...]
    """Queries in the order of their descriptors."""

    def __post_init__(self) -> None:
        if not self.queries:
            raise ValueError("ground truth without a query; check the file")
        for query in self.queries:
            for row in query.easy + query.hard + query.junk:
                if not 0 <= row < len(self.database):
                    raise ValueError(
                        f"query {query.image!r} judges image {row}; "
                        f"the database has rows 0 to {len(self.database) - 1}"
                    )


def read_ground_truth(path: Path | str) -> GroundTruth:
    """Read what `write_ground_truth` wrote.

    Raises:
        ValueError: not such a file, or contents that contradict themselves; names ``path``.
    """
    try:
        content = json.loads(Path(path).read_bytes())
        if content["format"] != _FORMAT:
            raise ValueError(f"format is {content['format']!r}, expected {_FORMAT!r}")
        queries = tuple(_query(entry["image"], entry["box"], entry) for entry in content["queries"])
        return GroundTruth(database=tuple(map(str, content["database"])), queries=queries)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no ground truth: {_name(error)}; {_REMEDY}") from error


def write_ground_truth(ground_truth: GroundTruth, path: Path | str) -> None:
    """Write ``ground_truth`` as JSON, whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    content = {"format": _FORMAT, **asdict(ground_truth)}
    temporary.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def convert_pickle(path: Path | str) -> GroundTruth:
    """Read an official ``gnd_*.pkl``: names ``imlist``, ``qimlist`` and judgements ``gnd``.

    Raises:
        ValueError: the file asks for anything but plain data, lacks a part (a query without its box
            ``bbx`` too: an uncropped query set inflates results), or contradicts itself.
    """
    try:
        with Path(path).open("rb") as file:
            content = _PlainUnpickler(file, encoding="latin1").load()
        judged = zip(content["qimlist"], content["gnd"], strict=True)
        queries = tuple(_query(str(image), entry["bbx"], entry) for image, entry in judged)
        return GroundTruth(database=tuple(map(str, content["imlist"])), queries=queries)
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


def _query(image: str, box: Any, entry: Any) -> RevisitedQuery:
    left, upper, right, lower = (float(edge) for edge in box)
    easy, hard, junk = (tuple(int(row) for row in entry[name]) for name in _JUDGEMENTS)
    return RevisitedQuery(
        image=image, box=(left, upper, right, lower), easy=easy, hard=hard, junk=junk
    )


def _name(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
