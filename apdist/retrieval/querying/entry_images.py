"""The encoded image of an entry of an index, from where its bytes lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apdist.data import storage
from apdist.data.storage.errors import MissingError
from apdist.data.text import real_name


def place_of(entry: Mapping[str, Any]) -> str:
    """What tells the image's bytes from all others; empty where the entry does not say it."""
    if entry.get("shard"):
        return f"{entry['shard']}:{entry['offset']}:{entry['size']}"
    return str(entry.get("source") or "")


def image_of(entry: Mapping[str, Any]) -> bytes:
    """The encoded image: a part of a shard, or the file that is its source.

    Raises:
        StorageError: it cannot be read, or is not there any more.
    """
    place = str(entry.get("shard") or entry.get("source") or "")
    try:
        return _read(place, entry)
    except MissingError:
        if (real := real_name(place)) == place:
            raise
        return _read(real, entry)


def _read(place: str, entry: Mapping[str, Any]) -> bytes:
    if entry.get("shard"):
        return bytes(storage.read_range(place, entry["offset"], entry["size"]))
    return storage.read_bytes(place)
