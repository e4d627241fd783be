"""Variables of a MATLAB file of version 5 to 7.2: numbers, texts, cells and structs, nothing else.

The format is MathWorks' "MAT-File Format". SciPy's reader ends the process on some damaged files.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HEADER_BYTES = 128
MOST_BYTES = 1 << 28
"""Of an unpacked variable: more is no list of images."""
DEEPEST = 8
COMPRESSED, MATRIX = 15, 14
CELL, STRUCT, CHAR, NUMBERS = 1, 2, 4, range(6, 16)
"""Classes of arrays; what is between is objects and sparse matrices."""
TYPES = dict(zip((*range(1, 8), 9, 12, 13), "bBhHiIfdqQ", strict=True))
"""How numbers are stored, whatever their class: as `struct` calls it."""
TEXTS = {1: "latin-1", 2: "utf-8", 16: "utf-8"}
"""How texts of bytes are stored; else they are in 16 bits."""


class _Element(NamedTuple):
    kind: int
    data: bytes


def read_matlab(path: Path) -> dict[str, Any]:
    """The variables by name: texts, lists of numbers, lists of cells, lists of structs as dicts.

    Raises:
        ValueError: the file cannot be read, is of another version, damaged, or holds other kinds.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({(error.strerror or '').lower()})") from error
    order = {b"IM": "<", b"MI": ">"}.get(data[126:HEADER_BYTES], "")
    if not order or data[124:126] not in (b"\x00\x01", b"\x01\x00"):
        raise ValueError(f"{path} is no MATLAB file of version 5 to 7.2; save it with -v7")
    try:
        elements = _elements(data[HEADER_BYTES:], order)
        return dict(_matrix(_unpacked(element, order), order, 0) for element in elements)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or cut ({error})") from error


def _elements(data: bytes, order: str) -> Iterator[_Element]:
    """The parts of ``data``, one after another."""
    at = 0
    while at < len(data):
        element, at = _element(data, at, order)
        yield element


def _element(data: bytes, at: int, order: str) -> tuple[_Element, int]:
    """The element at ``at``, and where the next one is."""
    kind, size = struct.unpack(f"{order}II", data[at : at + 8].ljust(8, b"\0"))
    start = at + 8
    if kind >> 16:  # a small one: size, kind and up to four bytes in one
        kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
    if size > len(data) - start or (start == at + 4 and size > 4):
        raise ValueError(f"{size} bytes are promised and {max(0, len(data) - start)} are left")
    end = start + size
    following = end if kind == COMPRESSED else at + 8 * math.ceil((end - at) / 8)
    return _Element(kind, data[start:end]), following


def _unpacked(element: _Element, order: str) -> _Element:
    if element.kind != COMPRESSED:
        return element
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(element.data, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not unpacker.eof:
        raise ValueError("a compressed variable has no end, or is too large")
    return _element(data, 0, order)[0]


def _matrix(element: _Element, order: str, depth: int) -> tuple[str, Any]:
    """Name and contents of an array."""
    if element.kind != MATRIX or depth > DEEPEST:
        raise ValueError(f"expected an array, found an element of kind {element.kind}")
    if not element.data:
        return "", []
    parts = _elements(element.data, order)
    kind = _integers(_next(parts), order)[0] & 0xFF
    shape = _integers(_next(parts), order)
    name = _next(parts).data.decode("latin-1")
    count = math.prod(shape) if min(shape) >= 0 else -1
    if kind == CHAR:
        return name, _text(_next(parts), order)
    if kind in NUMBERS:
        return name, _numbers(_next(parts), order)
    if kind == CELL:
        return name, _arrays(parts, count, element, order, depth)
    if kind == STRUCT:
        (width,), names = _integers(_next(parts), order), _next(parts).data
        if not 0 < width <= len(names):
            raise ValueError(f"field names of {width} characters")
        fields = [
            names[i : i + width].split(b"\0")[0].decode("latin-1")
            for i in range(0, len(names), width)
        ]
        values = _arrays(parts, count * len(fields), element, order, depth)
        size = len(fields)
        rows = [values[i : i + size] for i in range(0, len(values), size)]
        return name, [dict(zip(fields, row, strict=True)) for row in rows]
    raise ValueError(f"an array of class {kind}, which is no number, text, cell or struct")


def _arrays(
    parts: Iterator[_Element], count: int, element: _Element, order: str, depth: int
) -> list[Any]:
    if not 0 <= count <= len(element.data) // 8:
        raise ValueError(f"{count} arrays in {len(element.data)} bytes")
    return [_matrix(_next(parts), order, depth + 1)[1] for _ in range(count)]


def _numbers(element: _Element, order: str) -> list[Any]:
    if element.kind not in TYPES:
        raise ValueError(f"expected numbers, found an element of kind {element.kind}")
    letter = TYPES[element.kind]
    count, rest = divmod(len(element.data), struct.calcsize(letter))
    if rest:
        raise ValueError(f"{len(element.data)} bytes of numbers of {struct.calcsize(letter)} each")
    return list(struct.unpack(f"{order}{count}{letter}", element.data))


def _integers(element: _Element, order: str) -> list[int]:
    numbers = _numbers(element, order)
    if not numbers or not all(isinstance(number, int) for number in numbers):
        raise ValueError("expected whole numbers")
    return numbers


def _text(element: _Element, order: str) -> str:
    wide = "utf-16-le" if order == "<" else "utf-16-be"
    return element.data.decode(TEXTS.get(element.kind, wide))


def _next(parts: Iterator[_Element]) -> _Element:
    for element in parts:
        return element
    raise ValueError("an array ends before its contents")
