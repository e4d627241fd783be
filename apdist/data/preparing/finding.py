"""Which shards there are: those under a folder, or those that names with braces spell out."""

import math
import os
import re
from collections.abc import Iterator
from itertools import product

from apdist.data import storage
from apdist.data.preparing.kinds import hidden_kind
from apdist.data.preparing.tally import Tally
from apdist.data.storage.inside import refuse_stray
from apdist.data.text import shown_name

MOST_NAMES = 1_000_000
"""Shards that one pattern may spell out: more is a slip of the keyboard."""
COMPRESSED = re.compile(r".*\.(tar\.\w+|tgz|tbz2?|txz|tzst)", re.IGNORECASE)
COMPRESSED_SHARD = "compressed tar: images are read by their place, so unpack it first"
LINKED_AGAIN = "shard that is there under another name, by a link"


def find_shards(root: str, patterns: tuple[str, ...] = (), tally: Tally | None = None) -> list[str]:
    """Names of the shards under ``root``, or those that ``patterns`` with braces spell out.

    Args:
        root: folder, s3:// prefix or https:// address.
        patterns: names with braces.
        tally: counts what is passed over.

    Raises:
        ValueError: there is none, or the same one twice.
    """
    tally = tally or Tally()
    for pattern in patterns:
        if "*" in pattern:
            raise ValueError(
                f"--shards {pattern!r}: patterns have braces, as part-{{000..031}}.tar; without "
                "--shards all .tar files below are read"
            )
    if patterns:
        names = [name for pattern in patterns for name in expand_braces(pattern)]
    else:
        names = sorted(_tars_below(root, tally))
    if not names:
        others = "".join(
            f"; {number} {kind} (the first {first})"
            for kind, (number, first) in tally.kinds.items()
        )
        raise ValueError(
            f"no .tar file lies under {root}{others}; check the path, or name them: --shards"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"--shards names {twice!r} twice")
    if odd := next((name for name in names if shown_name(name) != name), ""):
        raise ValueError(
            f"{root}: the name of the shard {shown_name(odd)!r} is no UTF-8; rename it"
        )
    for name in names:
        refuse_stray(name, "--shards" if patterns else root)
    return names


def expand_braces(pattern: str) -> list[str]:
    """``a-{000..002}.tar`` and ``{a,b}.tar`` spelled out.

    Raises:
        ValueError: a brace is open, or holds neither a range nor a list.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    if any("{" in text or "}" in text for text in parts[::2]):
        raise ValueError(f"--shards {pattern!r} has a brace without its other half")
    choices = [[part] if i % 2 == 0 else _choices(part, pattern) for i, part in enumerate(parts)]
    if math.prod(map(len, choices)) > MOST_NAMES:
        raise _too_many(pattern)
    return ["".join(choice) for choice in product(*choices)]


def _choices(inside: str, pattern: str) -> list[str]:
    if match := re.fullmatch(r"(\d+)\.\.(\d+)", inside):
        if int(match[2]) < int(match[1]):
            raise ValueError(f"--shards {pattern!r}: the range {{{inside}}} runs backwards")
        if int(match[2]) - int(match[1]) >= MOST_NAMES:
            raise _too_many(pattern)
        width = len(match[1]) if match[1].startswith("0") else 0
        return [f"{n:0{width}d}" for n in range(int(match[1]), int(match[2]) + 1)]
    if "," not in inside:
        raise ValueError(
            f"--shards {pattern!r}: expected {{000..031}} or {{a,b}}, got {{{inside}}}"
        )
    return inside.split(",")


def _too_many(pattern: str) -> ValueError:
    return ValueError(f"--shards {pattern!r} spells out more than {MOST_NAMES} names")


def _tars_below(root: str, tally: Tally) -> Iterator[str]:
    """Names of all tars below ``root``; each once, whatever links lead to it."""
    todo = [""]
    seen: dict[str, str] = {}
    while todo:
        below = todo.pop()
        here = storage.join(root, below) if below else root
        if seen.setdefault(_identity(here), here) != here:
            tally.add("link to a folder that is read already", shown_name(below))
            continue
        files, folders = _listing(here)
        todo += [f"{below}{name}/" for name in sorted(folders, reverse=True) if name[0] != "."]
        for name in sorted(files):
            uri = storage.join(root, below + name)
            is_tar = name.lower().endswith(".tar")
            if COMPRESSED.fullmatch(name):
                tally.add(COMPRESSED_SHARD, shown_name(below + name))
            elif is_tar and (kind := hidden_kind(name)):
                tally.add(kind, shown_name(below + name))
            elif is_tar and seen.setdefault(_identity(uri), uri) != uri:
                tally.add(LINKED_AGAIN, shown_name(below + name))
            elif is_tar:
                yield below + name


def _listing(here: str) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in ``here``; links to nothing are files."""
    path = storage.local_path(here)
    if path is None:
        return storage.list_files(here), storage.list_folders(here)
    names = os.listdir(path) if path.is_dir() else []
    folders = [name for name in names if (path / name).is_dir()]
    return [name for name in names if name not in set(folders)], folders


def _identity(uri: str) -> str:
    path = storage.local_path(uri)
    return uri if path is None else os.path.realpath(path)
