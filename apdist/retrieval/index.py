"""Build, save and load a search index.

A saved index is a folder: index.json (settings; size and CRC32 of the other files),
entries.parquet, descriptors.safetensors and, where faiss searches, index.faiss.
See `index_folder` for how it comes to be.
"""

from __future__ import annotations

import json
import logging
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor

from apdist.retrieval.faiss_index import build_faiss, has_faiss, read_faiss, write_faiss
from apdist.retrieval.index_folder import DESCRIPTORS, ENTRIES, FAISS, SETTINGS, claimed
from apdist.retrieval.search_index import SearchIndex, measure_recall, unit_descriptors

__all__ = ["SearchIndex", "build_index", "load_index", "save_index"]

logger = logging.getLogger(__name__)

MODEL_COLUMN = "model"
"""Column of entries, where they have it, with the id of the model that described the image."""
KINDS = ("auto", "exact", "flat", "ivf", "hnsw", "ivf_pq")
_FORMAT = "apdist.index"
_FORMAT_VERSION = 1
_REMEDY = "build the index again with `apdist index`"
_BYTES_PER_READ = 1 << 22


def build_index(
    descriptors: Tensor | NDArray[Any], entries: pa.Table, *, kind: str = "auto", model_id: str
) -> SearchIndex:
    """Index ``descriptors`` (n, d) and measure its recall against exact search.

    Args:
        descriptors: (n, d) of unit length.
        entries: n rows: what a search result should tell about each image.
        kind: "exact" needs no faiss; "flat" is exact, too; "ivf", "hnsw" and "ivf_pq" trade recall
            for speed; "auto" is "flat" where faiss imports, else "exact".
        model_id: names the model; only its descriptors can be searched for.

    Raises:
        ValueError: descriptors that are not of unit length, another number of entries, entries
            of another model, an unknown kind, or a kind whose faiss is not installed.
    """
    vectors = unit_descriptors(descriptors, "descriptors")
    if entries.num_rows != len(vectors) or not len(vectors):
        raise ValueError(
            f"expected one entry per descriptor and at least one, "
            f"got {entries.num_rows} entries and {len(vectors)} descriptors"
        )
    _refuse_others(entries, model_id)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    if kind == "auto":
        kind = "flat" if has_faiss() else "exact"
    settings = {"kind": kind, "dim": vectors.shape[1], "count": len(vectors), "model_id": model_id}
    faiss_index, chosen = (None, {}) if kind == "exact" else build_faiss(kind, vectors)
    index = SearchIndex(vectors, entries, {**settings, **chosen}, faiss_index)
    index.settings["recall_at_10"] = measure_recall(index)
    return index


def _refuse_others(entries: pa.Table, model_id: str) -> None:
    """Refuse entries that say they were described with another model."""
    there = (
        entries[MODEL_COLUMN].unique().to_pylist() if MODEL_COLUMN in entries.schema.names else []
    )
    if others := sorted(str(model) for model in there if model != model_id):
        raise ValueError(
            f"entries of model {', '.join(others[:3])} in an index of model {model_id}; describe "
            "all images with one model"
        )


def save_index(index: SearchIndex, folder: str | Path) -> None:
    """Write ``index`` to ``folder``, whole or not at all; a folder with content is refused."""
    with claimed(folder) as path:
        write_index(index, path)


def write_index(index: SearchIndex, folder: Path) -> None:
    """Write ``index`` into a folder that is `claimed`."""
    from safetensors.torch import save_file

    pq.write_table(index.entries, folder / ENTRIES)
    save_file({"descriptors": index.descriptors.cpu().contiguous()}, folder / DESCRIPTORS)
    names = [DESCRIPTORS, ENTRIES]
    if index.faiss_index is not None:
        write_faiss(index.faiss_index, folder / FAISS)
        names.append(FAISS)
    files = {name: _fingerprint(folder / name) for name in names}
    header = {"format": _FORMAT, "format_version": _FORMAT_VERSION, **index.settings}
    text = json.dumps({**header, "files": files}, indent=2, ensure_ascii=False)
    part = folder / f"{SETTINGS}.part"
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(folder / SETTINGS)


def load_index(folder: str | Path, *, model_id: str | None) -> SearchIndex:
    """Read the index that `save_index` wrote.

    Where faiss is missing the index is searched exactly, with a warning.

    Args:
        folder: the saved index.
        model_id: the model that will describe the queries; None skips the comparison.

    Raises:
        ValueError: built with another model, or a file is missing, damaged or of another format.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    settings = _read_settings(folder)
    approximate = settings["kind"] != "exact"
    fingerprints = settings["files"]
    for name in (DESCRIPTORS, ENTRIES, *([FAISS] if approximate else [])):
        _check_file(folder / name, fingerprints.get(name))
    descriptors = load_file(folder / DESCRIPTORS)["descriptors"]
    entries = pq.read_table(folder / ENTRIES)
    faiss_index = None
    if approximate and has_faiss():
        faiss_index = read_faiss(folder / FAISS)
    elif approximate:
        logger.warning("%s: faiss does not import; searching exactly, which is slower", folder)
    for name in ("format", "format_version", "files"):
        del settings[name]
    index = SearchIndex(descriptors, entries, settings, faiss_index)
    if model_id is not None:
        index.refuse_model(model_id, folder)
    return index


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} does not exist: {folder} is no index, or is still being written; {_REMEDY}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {_REMEDY}") from error
    if not isinstance(settings, dict) or settings.get("format") != _FORMAT:
        raise ValueError(f"{path} does not describe an index of apdist; {_REMEDY}")
    if settings.get("format_version") != _FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {settings.get('format_version')}, this apdist reads "
            f"{_FORMAT_VERSION}; {_REMEDY}"
        )
    missing = {"kind", "dim", "count", "model_id", "files"} - settings.keys()
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}; {_REMEDY}")
    return settings


def _fingerprint(path: Path) -> dict[str, int]:
    """Size and CRC32 of the file ``path``."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BYTES_PER_READ):
            crc = zlib.crc32(block, crc)
    return {"bytes": path.stat().st_size, "crc32": crc}


def _check_file(path: Path, fingerprint: dict[str, int] | None) -> None:
    if not path.is_file():
        raise ValueError(f"{path} is missing; {_REMEDY}")
    found = _fingerprint(path)
    if found != fingerprint:
        raise ValueError(f"{path} is damaged: expected {fingerprint}, got {found}; {_REMEDY}")
