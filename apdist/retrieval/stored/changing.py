"""Add images to a stored index, remove them and replace them, by key.

Each change makes a new generation of the index (`folder`): who reads the old one goes on with it.

Shapes: n images, b of a part, d descriptor size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.given import Place, key_texts
from apdist.retrieval.approximate.building import add_to_faiss, build_faiss
from apdist.retrieval.approximate.faiss_index import FaissIndex
from apdist.retrieval.approximate.importing import import_faiss
from apdist.retrieval.filters import Filter
from apdist.retrieval.index import complete
from apdist.retrieval.search_index import SearchIndex, mask_of
from apdist.retrieval.stored.folder import Generation, claimed
from apdist.retrieval.stored.reading import read_index
from apdist.retrieval.stored.writing import KEY, Part, PartsWriter, RepeatedError, checked_parts

_ROWS_AT_ONCE = 1 << 16
_MOST_GROWTH = 2
"""An index that is this many times what faiss learned from learns anew."""


class NothingError(ValueError):
    """No image came that could be added."""


@dataclass(frozen=True)
class Changed:
    """What a change did."""

    settings: dict[str, Any]
    """Of the index as it is now."""
    num_added: int = 0
    num_replaced: int = 0
    num_removed: int = 0
    missing: tuple[str, ...] = ()
    """Keys that were to be removed and are not there."""


def add_to_index(folder: Place, parts: Iterable[Part], *, model_id: str) -> Changed:
    """Add images to the index in ``folder``, behind those that it holds.

    Columns that the index does not have are added, empty for the images before; a missing one is
    empty for the new images.

    Args:
        folder: the index, local or s3://.
        parts: descriptors (b, d) of unit length and their entries (b), which have a key.
        model_id: the model that described them.

    Raises:
        ValueError: a key is there already, or comes twice; the model, the width or the kind of a
            column is another.
        NothingError: nothing is to be added.
    """
    with claimed(folder, "change") as generation:
        old = _old(generation, folder, model_id)
        first, parts = _peeked(parts)
        try:
            with _writing(generation, old, first.schema) as writer:
                _copy(old, None, writer)
                for descriptors, entries in parts:
                    writer.add(descriptors, entries, model_id=model_id)
        except RepeatedError as error:
            raise ValueError(
                f"{_number_of(error.keys)} in the index already or come twice, the first "
                f"{error.keys[0]!r}; replace what is there with `apdist index update`"
            ) from error
        settings = _completed(generation, old, after=len(old))
    return Changed(settings, num_added=writer.count - len(old))


def update_index(folder: Place, parts: Iterable[Part], *, model_id: str) -> Changed:
    """Replace the images of the index in ``folder`` whose keys come again, and add the others.

    What comes is first in the index then, before what stays.

    Args:
        folder: as in `add_to_index`.
        parts: as there.
        model_id: as there.

    Raises:
        ValueError: as there, but for keys that are there already.
    """
    keys: list[pa.ChunkedArray] = []
    with claimed(folder, "change") as generation:
        old = _old(generation, folder, model_id)
        first, parts = _peeked(parts)
        with _writing(generation, old, first.schema) as writer:
            for descriptors, entries in parts:
                writer.add(descriptors, entries, model_id=model_id)
                keys.append(_keys(entries, "entries"))
            num_new = writer.count
            replaced = _is_in(old, pa.chunked_array(chain(*(k.chunks for k in keys)), pa.string()))
            _copy(old, ~replaced, writer)
        settings = _completed(generation, old, after=0)
    num_replaced = int(replaced.sum())
    return Changed(settings, num_added=num_new - num_replaced, num_replaced=num_replaced)


def remove_from_index(
    folder: Place,
    keys: Sequence[str] = (),
    *,
    where: Filter | Sequence[str] | None = None,
) -> Changed:
    """Remove images from the index in ``folder``; where none is found nothing is written.

    Args:
        folder: as in `add_to_index`.
        keys: of the images; those that are not there are told.
        where: images of these entries are removed, too: a filter or conditions as text.

    Raises:
        ValueError: no image would be left, or the filter names a column that is not there.
    """
    keys = key_texts("keys", keys)
    with claimed(folder, "change") as generation:
        old = _old(generation, folder, None)
        wanted = pa.chunked_array([pa.array(keys, pa.string())])
        removed = _is_in(old, wanted) if keys else np.zeros(len(old), dtype=bool)
        there = set(old.entries[KEY].filter(removed).cast(pa.string()).to_pylist()) if keys else ()
        missing = tuple(key for key in dict.fromkeys(keys) if key not in there)
        if where is not None:
            removed |= mask_of(where, old.entries).numpy()
        if removed.all():
            raise ValueError(
                f"that would remove all {len(old)} images of {folder}, and an index needs one; "
                "remove the folder instead"
            )
        if not removed.any():
            return Changed(old.settings, missing=missing)
        with _writing(generation, old, old.entries.schema) as writer:
            _copy(old, ~removed, writer)
        settings = _completed(generation, old, after=0)
    return Changed(settings, num_removed=int(removed.sum()), missing=missing)


def _old(generation: Generation, folder: Place, model_id: str | None) -> SearchIndex:
    """The index as it is, whole, of images that have keys."""
    old = read_index(generation.root, check_all=True)
    if model_id is not None and old.settings["model_id"] != model_id:
        raise ValueError(
            f"{folder} is of model {old.settings['model_id']}, the images to go into it are "
            f"described with model {model_id}; describe them with the first, or build an index of "
            "the second"
        )
    _keys(old.entries, str(folder))
    return old


def _keys(entries: pa.Table, name: str) -> pa.ChunkedArray:
    if KEY not in entries.schema.names:
        raise ValueError(
            f"{name} has no column {KEY!r}, by which images are added, replaced and removed; build "
            "the index of entries with keys"
        )
    return entries[KEY].cast(pa.string())


def _peeked(parts: Iterable[Part]) -> tuple[pa.Table, Iterator[Part]]:
    """The entries of the first part, and all parts."""
    left = checked_parts(parts)
    first = next(left, None)
    if first is None:
        raise NothingError("nothing is to be added: expected one image or more")
    return first[1], chain([first], left)


@contextmanager
def _writing(generation: Generation, old: SearchIndex, more: pa.Schema) -> Iterator[PartsWriter]:
    """Writes files of the width of an index and with its columns, and those of ``more``."""
    has = old.entries.schema.remove_metadata()
    schema = pa.schema([*has, *(field for field in more if field.name not in has.names)])
    with PartsWriter(generation.path, schema=schema, dim=old.descriptors.shape[1]) as writer:
        yield writer
        writer.finish()


def _copy(old: SearchIndex, kept: NDArray[np.bool_] | None, writer: PartsWriter) -> None:
    """Write the rows of ``old`` that are ``kept`` (n,), or all, as they are."""
    for start in range(0, len(old), _ROWS_AT_ONCE):
        descriptors = old.descriptors[start : start + _ROWS_AT_ONCE]
        entries = old.entries.slice(start, len(descriptors))
        if kept is not None:
            some = kept[start : start + len(descriptors)]
            descriptors, entries = descriptors[torch.from_numpy(some)], entries.filter(some)
        writer.add_as_is(descriptors, entries)


def _is_in(index: SearchIndex, keys: pa.ChunkedArray) -> NDArray[np.bool_]:
    """(n,) bool: which images have one of ``keys``."""
    found = pc.is_in(index.entries[KEY].cast(pa.string()), value_set=keys.combine_chunks())
    return np.array(found.to_numpy(), dtype=bool)


def _completed(generation: Generation, old: SearchIndex, *, after: int) -> dict[str, Any]:
    about = {name: value for name, value in old.settings.items() if name not in ("dim", "count")}
    return complete(generation, about.pop("kind"), _faiss_after(old, after), about)


def _faiss_after(
    old: SearchIndex, after: int
) -> Callable[[Tensor], tuple[FaissIndex | None, dict[str, Any]]]:
    """How faiss follows: rows from ``after`` on are added to what it has, or it learns anew."""

    def make(vectors: Tensor) -> tuple[FaissIndex | None, dict[str, Any]]:
        kind, known = old.settings["kind"], old.settings.get("trained_on", 0)
        if kind == "exact":
            return None, {}
        if old.faiss_index is None:
            import_faiss()  # says what is missing
        if old.faiss_index is None or len(vectors) > _MOST_GROWTH * known:
            found, chosen = build_faiss(kind, vectors)
            return found, {**chosen, "trained_on": len(vectors)}
        return add_to_faiss(kind, old.faiss_index, vectors, after=after)

    return make


def _number_of(keys: Sequence[str]) -> str:
    return f"{len(keys)} key{'s are' if len(keys) > 1 else ' is'}"
