"""Walk a tar front to back: each file in it with the place of its bytes, and no silent end.

`tarfile`, and `webdataset` with it, takes a header that is cut or damaged for the end of the
archive: a truncated shard would count as a short one.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

READ_BYTES = 32 << 10
"""Small, because `tarfile` copies what is left of a block at each header."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class DamageError(ValueError):
    """A stream is no tar or is damaged; the message says what and at which byte."""


@dataclass(frozen=True)
class Member:
    """One file in a tar."""

    name: str
    offset: int
    """Of its bytes inside the tar."""
    size: int
    data: bytes
    """Empty where it was not wanted."""
    fault: str = ""
    """Why its bytes do not lie together in the tar: it is a link, a sparse file, a device."""


def members(stream: IO[bytes], wanted: Callable[[str], bool]) -> Iterator[Member]:
    """What lies in the tar ``stream``, less folders; the bytes of files whose name is ``wanted``.

    Raises:
        DamageError: damaged, cut, compressed or no tar; whatever came before was delivered.
    """
    end = _End()
    recorder: Any = _Recorder(stream, end)
    try:
        tar: Any
        with tarfile.open(
            fileobj=recorder, mode="r|", bufsize=READ_BYTES, tarinfo=_header(end)
        ) as tar:
            for info in tar:
                if not info.isdir():
                    yield _member(tar, info, wanted)
                tar.members = []  # or it keeps every header it has seen
            _check_end(tar, end)
    except tarfile.TarError as error:
        raise DamageError(_refusal(end, error)) from error


@dataclass
class _End:
    """What was seen where the walk stopped."""

    first_bytes: bytes = b""
    header_at: int = 0
    name: str = ""
    """Of the last member whose header was read."""
    is_tar: bool = False
    has_mark: bool = False


class _Recorder:
    """Passes reads on and remembers how the stream begins."""

    def __init__(self, stream: IO[bytes], end: _End) -> None:
        self.stream, self.end = stream, end

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.end.first_bytes = self.end.first_bytes or data[:8]
        return data


def _header(end: _End) -> type[tarfile.TarInfo]:
    """Headers that do not let `tarfile` stop at a damaged one."""

    class Header(tarfile.TarInfo):
        @classmethod
        def fromtarfile(cls, tar: tarfile.TarFile) -> Any:
            end.header_at = tar.offset
            try:
                header = super().fromtarfile(tar)
            except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
                end.has_mark = True
                raise
            except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
                raise
            except tarfile.HeaderError as error:
                raise DamageError(_refusal(end, error)) from error
            end.is_tar, end.name = True, header.name
            return header

    return Header


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, wanted: Callable[[str], bool]) -> Member:
    if fault := _fault(info):
        return Member(info.name, info.offset_data, 0, b"", fault)
    data = b""
    if wanted(info.name):
        file = tar.extractfile(info)
        assert file is not None  # it is a regular file
        data = file.read()
        if len(data) != info.size:
            raise DamageError(f"is cut off inside {info.name!r} at byte {info.offset_data}")
    return Member(info.name, info.offset_data, info.size, data)


def _fault(info: tarfile.TarInfo) -> str:
    if info.issparse():
        return "a sparse file, whose bytes do not lie together; write the shard without --sparse"
    if info.islnk() or info.issym():
        return (
            f"a link to {info.linkname!r}, which holds no bytes; write the shard with "
            "tar --dereference --hard-dereference"
        )
    return "" if info.isreg() else f"no file but a member of type {info.type.decode('latin-1')!r}"


def _check_end(tar: Any, end: _End) -> None:
    if not end.has_mark:
        raise DamageError(
            f"ends at byte {tar.offset} without a tar's end mark: it was cut off between two "
            "members, or never closed by its writer"
        )
    position = tar.fileobj.tell()
    while block := tar.fileobj.read(READ_BYTES):
        if block.strip(b"\0"):
            raise DamageError(
                f"goes on behind its end mark, after byte {position}, where no reader looks: "
                "were several tars joined with cat?"
            )


def _refusal(end: _End, error: tarfile.TarError) -> str:
    for magic, name in COMPRESSED.items():
        if end.first_bytes.startswith(magic):
            return f"is compressed with {name}; images are read by their place, so unpack it first"
    if not end.is_tar:
        return f"is no tar ({error})"
    where = f"byte {end.header_at}, in or behind {end.name!r}"
    return f"is cut off or damaged at or after {where} ({error})"
