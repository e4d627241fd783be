"""Folders, keys and objects as a person gives them in Python; or refused in a line.

As for numbers (`arrays`): what says clearly what is meant is taken, in any of the kinds in which
people have it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

Place: TypeAlias = "str | os.PathLike[str]"
"""A folder or a file: its path, or its address."""
Kind = TypeVar("Kind")


def place_of(name: str, value: Place) -> str:
    """A path or an address as text.

    Raises:
        ValueError: it is neither.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a path or an address, got {shown(value)}")
    return text


def keys_of(name: str, value: Iterable[str]) -> Sequence[str]:
    """Keys of images; those of a column of Arrow, pandas or NumPy as Python has them.

    Raises:
        ValueError: it is one text, whose letters would be keys, or nothing that has several.
    """
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise ValueError(f'{name} must be several keys, as ["a", "b"], got {shown(value)}')
    for method in ("to_pylist", "tolist"):  # of Arrow; of pandas and NumPy
        if hasattr(value, method):
            return list(getattr(value, method)())
    return list(value)


def key_texts(name: str, value: str | Iterable[str]) -> list[str]:
    """Keys that name images of an index: one, or several as `keys_of` takes them.

    Raises:
        ValueError: one is no text.
    """
    keys = [value] if isinstance(value, str) else list(keys_of(name, value))
    for key in keys:
        of_kind(f"{name}: a key", key, str, "keys are text")
    return keys


def of_kind(name: str, value: Any, kind: type[Kind], remedy: str) -> Kind:
    """``value``, which is a ``kind``.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {shown(value)}; {remedy}")
    return value


def shown(value: Any) -> str:
    """What kind of object it is, and which in few characters."""
    if value is None or isinstance(value, str | bytes | int | float):
        return f"{value!r:.60}"
    return f"one of type {type(value).__name__}"
