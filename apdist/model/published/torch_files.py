"""The two formats of `torch.save`, read without torch's own unpickler: zip files, and older ones.

A zip holds a pickle, ``data.pkl``, and the bytes of each storage. The older format (before torch
1.6, that of most published models) is a sequence of pickles: a magic number, a version, what the
machine was, the object, the keys of its storages; then, for each key, a count and its bytes.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from apdist.model.published.pickles import RefusedError, Unpickler

_MAGIC = 0x1950A86A20F9469CFC6C
_ZIP = b"PK\x03\x04"
_PICKLES = (b"\x80", b"c", b"(")
"""How pickles begin: by their protocol, or of the first one by a name or a mark."""


def read_checkpoint(data: bytes, name: str) -> Any:
    """What `torch.save` wrote, in the inert types of `pickles`.

    Args:
        data: the bytes of the file.
        name: of the file, for messages.

    Raises:
        ValueError: no such file, a damaged one, or one that asks for more than is admitted.
    """
    try:
        return _zip(data) if data.startswith(_ZIP) else _sequence(data)
    except RefusedError as error:
        raise ValueError(f"{name} {error}") from error
    except Exception as error:  # damaged bytes fail with whatever they lead to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{name} is no checkpoint of torch, or is cut or damaged ({reason:.150}); get it again"
        ) from error


@dataclass(eq=False)
class _Part:
    """A storage: numbers of one type, in bytes that are found when they are asked for."""

    dtype: torch.dtype
    count: int
    read: Callable[[], bytes | memoryview]
    is_big_endian: bool = False
    found: list[Tensor] = field(default_factory=list)

    def numbers(self) -> Tensor:
        """All of them (n,).

        Raises:
            ValueError: the file has more or fewer of them.
        """
        if not self.found:
            data, size = self.read(), self.dtype.itemsize
            if len(data) != self.count * size:
                raise ValueError(f"a storage has {len(data)} bytes, not {self.count * size}")
            numbers = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else _NOTHING
            if self.is_big_endian:
                numbers = numbers.view(-1, size).flip(1).flatten()
            self.found.append(numbers.view(self.dtype))
        return self.found[0]


@dataclass(eq=False)
class _View:
    """A part of another storage."""

    whole: _Part
    start: int
    count: int

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""
        return self.whole.dtype

    def numbers(self) -> Tensor:
        """All of them (n,)."""
        return self.whole.numbers()[self.start : self.start + self.count]


def _zip(data: bytes) -> Any:
    archive = zipfile.ZipFile(io.BytesIO(data))
    names = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
    if "data.pkl" not in names:
        raise ValueError("it is a zip file without data.pkl, as archives of other programs are")
    for entry in names.values():
        # torch compresses nothing; what unfolds to any size is no file of its.
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{entry.filename} is compressed")
    order = archive.read(names["byteorder"]) if "byteorder" in names else b"little"
    is_big_endian = order == b"big"

    def storage(dtype: torch.dtype, key: str, _place: str, count: int) -> _Part:
        entry = names[f"data/{key}"]
        return _Part(dtype, count, lambda: archive.read(entry), is_big_endian)

    return Unpickler(io.BytesIO(archive.read(names["data.pkl"])), storage).load()


def _sequence(data: bytes) -> Any:
    file = io.BytesIO(data)
    if not data.startswith(_PICKLES) or Unpickler(file).load() != _MAGIC:
        raise ValueError("it does not begin as one")
    version, machine = Unpickler(file).load(), Unpickler(file).load()
    parts: dict[str, _Part] = {}
    places: dict[str, memoryview] = {}

    def storage(
        dtype: torch.dtype, key: str, _place: str, count: int, view: Any = None
    ) -> _Part | _View:
        part = parts.setdefault(key, _Part(dtype, count, lambda: places[key]))
        if part.dtype != dtype:
            raise ValueError(f"the storage {key} is of two types")
        return part if view is None else _View(part, int(view[1]), int(view[2]))

    found = Unpickler(file, storage).load()
    order: Literal["little", "big"] = "little" if machine.get("little_endian", True) else "big"
    keys, at = Unpickler(file).load(), file.tell()
    if version != 1001 or set(keys) != set(parts):
        raise ValueError("its storages are not those that it names")
    for key in keys:
        part, whole = parts[key], memoryview(data)
        count = int.from_bytes(whole[at : at + 8], order)
        size = part.count * part.dtype.itemsize
        if count != part.count or at + 8 + size > len(data):
            raise ValueError(f"it ends within its numbers, at byte {len(data)}")
        places[key] = whole[at + 8 : at + 8 + size]
        part.is_big_endian = order == "big"
        at += 8 + size
    return found


_NOTHING = torch.empty(0, dtype=torch.uint8)
