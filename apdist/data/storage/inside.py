"""Names that a file gives, of a catalogue or a checkpoint: none leads out of its folder.

Whoever writes such a file could otherwise have a command write, or read, anywhere.
"""

import os
import re

from apdist.addresses import shown

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
LONGEST = 1024
"""Bytes; S3 takes no longer key."""


def refuse_outside(name: str, where: str) -> None:
    """Raise unless ``name`` is that of a file in a folder, or in folders below it.

    Args:
        name: what a file names.
        where: that file, for the message.

    Raises:
        ValueError: it is absolute, an address, or leads out; or no file has such a name anywhere.
    """
    fault = _misspelt(name) or _stray(name)
    if fault:
        raise _refusal(name, where, fault)


def refuse_stray(name: str, where: str) -> None:
    """As `refuse_outside`, but a whole address may lie anywhere, as ``prepare index --out`` writes.

    Raises:
        ValueError: the address has a way up in it; or as `refuse_outside`.
    """
    if not is_whole(name):
        refuse_outside(name, where)
    elif fault := _misspelt(name):
        raise _refusal(name, where, fault)


def is_whole(name: str) -> bool:
    """Whether ``name`` is an address by itself, and not a name in a folder."""
    return bool(_SCHEME.match(name)) or os.path.isabs(name)


def _misspelt(name: str) -> str:
    """Why no address has such parts; empty where one may."""
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "has a control character in it"
    if "\\" in name:
        return "has a backslash in it"
    if ".." in name.split("/"):
        return "leads out of its folder"
    if len(name.encode(errors="surrogatepass")) > LONGEST:
        return f"has more than {LONGEST} bytes"
    return ""


def _stray(name: str) -> str:
    """Why ``name`` is none in a folder; empty where it is."""
    if is_whole(name):
        return "is no name in a folder but a whole address"
    if any(part in ("", ".") for part in name.split("/")):
        return "has an empty part"
    return ""


def _refusal(name: str, where: str, fault: str) -> ValueError:
    return ValueError(
        f"{where} names {shown(name)[:100]!r}, which {fault}; expected a file in its own folder: "
        "correct it, or do not use it"
    )
