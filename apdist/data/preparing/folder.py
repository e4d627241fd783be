"""A person's own pictures: IMAGES/<class>/<image> to items for the shard writer."""

import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from apdist.data.images import ImageError, decode
from apdist.data.preparing.kinds import (
    NOT_READ,
    extension,
    hidden_kind,
    is_picture,
    is_raw,
    no_picture,
    promises_picture,
)
from apdist.data.preparing.labels import number_labels
from apdist.data.preparing.shards import Encoded, Item
from apdist.data.preparing.tally import Tally
from apdist.data.storage.local import path_hint
from apdist.data.text import composed, shown_name

KEPT_FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Files of these formats go into the shards as they are; others are stored as PNG."""
SPLIT_NAMES = re.compile(
    r"train(ing)?|val|valid(ation)?|dev|test(ing)?|eval|query|gallery|holdout", re.IGNORECASE
)
"""Folders of these names, where all are, lie above the classes: IMAGES/train/<class>/<image>."""
ARCHIVE = re.compile(r".*\.(zip|7z|rar|tar|tgz|tar\.\w+)", re.IGNORECASE)
BESIDE = "picture outside of the class folders"
LOST = "link that leads nowhere"
JOINED = "class folder named as another one, in a different Unicode normal form: one class"
CLIPPED = "float picture with values outside of 0 to 1: clipped"
NO_UTF8 = "name that is no UTF-8, written with \\x"


@dataclass(frozen=True)
class StoredImage:
    """A file, or a part of one, that holds an encoded image, and what to do with it."""

    path: str
    max_side: int
    """Longest side in pixels after encoding; 0 keeps the bytes as they are."""
    offset: int = 0
    size: int = -1
    """Bytes; -1 for all up to the end of the file."""

    def read(self) -> bytes:
        """The encoded image."""
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class Folder:
    """What lies in a folder of pictures."""

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    """Of each class, its pictures: the path below the folder as text, and the path to open."""
    splits: dict[str, str] = field(default_factory=dict)
    """Split of each picture, where folders of splits lie above the classes."""
    tally: Tally = field(default_factory=Tally)


def scan_folder(root: Path) -> Folder:
    """Class folders under ``root`` with all pictures below them; links are followed.

    Raises:
        ValueError: no folder, nothing in it that could be a class, or splits beside classes.
    """
    if not root.is_dir():
        if ARCHIVE.fullmatch(root.name) and root.exists():
            raise ValueError(f"{root} is an archive; unpack it, and give the folder")
        advice = path_hint(root) if not root.exists() else ""
        raise ValueError(f"{root} is no folder{advice}; expected {root}/<class>/<image>")
    result = Folder()
    found, folders = pictures_below(root, result.tally)
    found.sort(key=lambda path: path.split("/"))
    depth = 2 if _has_split_folders(root, found) else 1
    _place(root, found, depth, result)
    if not result.files:
        beside = result.tally.number(BESIDE)
        raise ValueError(
            f"{root} holds no class folder with a picture in it; expected {root}/"
            + ("<class>/<image>" if depth == 1 else "<split>/<class>/<image>")
            + (f", and {beside} pictures lie elsewhere" if beside else "")
            + ("; without class folders, list them: apdist prepare csv" if beside else "")
        )
    used = {"/".join(path.split("/")[:level]) for path in found for level in range(depth + 1)}
    for folder in sorted(folders):
        if folder.count("/") < depth and folder not in used:
            result.tally.add("folder without a picture", shown_name(folder))
    return result


def pictures_below(root: Path, tally: Tally) -> tuple[list[str], list[str]]:
    """Paths below ``root`` of all files that promise a picture, and of all folders.

    Links are followed; those that lead nowhere are refused when they are read.
    """
    found: list[str] = []
    folders: list[str] = []
    todo: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while todo:
        below, above = todo.pop()
        here = f"{root}/{below}" if below else str(root)
        identity = os.stat(here)
        if (identity.st_dev, identity.st_ino) in above:
            tally.add("link to a folder that it lies in", shown_name(below))
            continue
        folders.append(below)
        inside = above | {(identity.st_dev, identity.st_ino)}
        with os.scandir(here) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{below}/{entry.name}" if below else entry.name
                kind = _kind(entry)
                if kind == "folder":
                    todo.append((path, inside))
                elif kind == "picture":
                    found.append(path)
                else:
                    tally.add(kind, shown_name(path))
    return found, folders


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder``, ``picture``, or why the entry is passed over."""
    if kind := hidden_kind(entry.name):
        return kind
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "picture" if is_picture(entry.path, entry.name) else no_picture(entry.name)
        if os.path.exists(entry.path):
            return "fifo, socket or device"
    except OSError:  # links in a circle
        pass
    # A picture that is none is refused when it is read; whatever else, as a class on another disk:
    return "picture" if promises_picture(entry.name) else LOST


def _has_split_folders(root: Path, found: list[str]) -> bool:
    """Whether the folders in ``root`` are splits, with the classes in them."""
    tops = {path.split("/", 1)[0] for path in found if "/" in path}
    splits = {name for name in tops if SPLIT_NAMES.fullmatch(name)}
    deep = {path.split("/", 1)[0] for path in found if path.count("/") > 1}
    if len(splits) > 1 and splits <= deep and splits != tops:
        names, other = ", ".join(sorted(splits)), shown_name(min(tops - splits))
        raise ValueError(
            f"{root} holds folders of splits ({names}) beside {other!r}; expected "
            f"{root}/<class>/<image> or {root}/<split>/<class>/<image>: move one of them"
        )
    return bool(tops) and splits == tops and (len(splits) > 1 or splits <= deep)


def _place(root: Path, found: list[str], depth: int, result: Folder) -> None:
    """Note each picture under its class, whose name is at ``depth`` of its path."""
    named: dict[tuple[str, ...], str] = {}
    for path in found:
        parts, source = path.split("/"), shown_name(path)
        if len(parts) <= depth:
            result.tally.add(BESIDE, source)
            continue
        name = composed(shown_name(parts[depth - 1]))
        place = (*parts[: depth - 1], name)
        if named.setdefault(place, parts[depth - 1]) != parts[depth - 1]:
            named[place] = parts[depth - 1]
            result.tally.add(JOINED, source.rpartition("/")[0])
        if source != path:
            result.tally.add(NO_UTF8, source)
        pictures = result.files.setdefault(name, {})
        if source in pictures:
            raise ValueError(f"{root} holds two files that are shown as {source!r}; rename one")
        pictures[source] = f"{root}/{path}"
        if depth > 1:
            result.splits[source] = parts[0].lower()


def folder_items(folder: Folder, splits: Mapping[str, str], max_side: int) -> list[Item]:
    """Items of all pictures whose path below the folder has a split in ``splits``."""
    numbers = number_labels(folder.files)
    return [
        Item(source, numbers[name], name, splits[source], StoredImage(path, max_side))
        for name, pictures in folder.files.items()
        for source, path in pictures.items()
        if source in splits
    ]


def folder_classes(folder: Folder) -> dict[str, list[str]]:
    """The sources of each class: paths below the folder."""
    return {name: list(pictures) for name, pictures in folder.files.items()}


def encode_file(content: StoredImage) -> Encoded:
    """The image's bytes, checked by decoding them; resized or converted where asked."""
    if is_raw(content.path):
        return Encoded(refused="is a camera's raw file; develop it to JPEG or PNG")
    try:
        data = content.read()
        decoded = decode(data)
    except (ImageError, OSError) as error:
        return Encoded(refused=_told(error, content.path))
    picture, kept = decoded.image, KEPT_FORMATS.get(decoded.format, "")
    if content.max_side and max(picture.size) > content.max_side:
        picture.thumbnail((content.max_side, content.max_side), Image.Resampling.LANCZOS)
        data, kept = _encode(picture, "JPEG"), "jpg"
    elif not kept:
        data, kept = _encode(picture, "PNG"), "png"
    return Encoded(data, kept, *picture.size, remark=CLIPPED if decoded.is_clipped else "")


def _told(error: Exception, path: str) -> str:
    if isinstance(error, OSError):
        return f"cannot be read ({(error.strerror or str(error)).lower()})"
    is_known = NOT_READ.fullmatch(extension(path))
    return f"{error}; convert it to JPEG or PNG" if is_known else str(error)


def _encode(picture: Image.Image, kind: str) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, quality=92)
    return target.getvalue()
