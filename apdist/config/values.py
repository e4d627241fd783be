"""Checks of single values, in words that name the option."""

import json
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from apdist.addresses import without_secrets


def suggestion(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """``; did you mean X?`` for the closest known name, or nothing."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def checked(name: str, value: Any, kind: Any) -> Any:
    """``value`` as the ``kind`` of the option ``name``.

    Raises:
        ValueError: it is of another type, or no choice.
    """
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    if get_origin(kind) in (Union, UnionType) and type(None) not in get_args(kind):
        number, words = get_args(kind)
        if not isinstance(value, str):
            return checked(name, value, number)
        if words is not str and value not in get_args(words):
            choices = ", ".join(get_args(words))
            raise ValueError(
                f"{name} must be of type {number.__name__} or {choices}, got {value!r}"
            )
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list, got {value!r}; write [{json.dumps(value)}]")
        return tuple(checked(name, part, get_args(kind)[0]) for part in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(fits_64_bits(name, value))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
    return fits_64_bits(name, value) if kind is int else value


def of_python(value: Any) -> Any:
    """A number of numpy's as one of Python's; anything else as it is."""
    is_number = type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
    return value.item() if is_number else value


def shown(value: Any) -> str:
    """A value as a person writes it on the command line, without secrets; ``none`` for no."""
    words = map(str, value) if isinstance(value, list | tuple) else [str(value)]
    return " ".join(map(without_secrets, words)) or ("" if isinstance(value, str) else "none")


def fits_64_bits(name: str, value: int) -> int:
    """``value``, refused where numpy, torch and Arrow could not hold it."""
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{name} must fit 64 bits, -2**63 to 2**63 - 1; got one that does not")
    return value


def at_least(name: str, value: int, smallest: int) -> None:
    """Refuse a value below ``smallest``."""
    if value < smallest:
        raise ValueError(f"{name} must be at least {smallest}, got {value}")


def in_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a value outside [``low``, ``high``], and NaN."""
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")


def pattern_factors(name: str, texts: tuple[str, ...]) -> list[tuple[str, float]]:
    """Patterns of names with their factors, from texts as ``backbone.*=0.1``.

    Raises:
        ValueError: a text has another form, or its factor is not positive.
    """
    return [_pattern_factor(name, text) for text in texts]


def _pattern_factor(name: str, text: str) -> tuple[str, float]:
    pattern, _, number = text.rpartition("=")
    try:
        factor = float(number)
    except ValueError:
        factor = 0.0
    if not pattern or not 0 < factor < float("inf"):
        raise ValueError(
            f'{name} must be patterns of names with positive factors, as "backbone.*=0.1"; '
            f"got {text!r}"
        )
    return pattern, factor
