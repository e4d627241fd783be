"""A person's own pictures: IMAGES/<class>/<image> to items for the shard writer."""

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from apdist.data.images import ImageError, open_image
from apdist.data.preparing.shards import Encoded, Item

KEPT_FORMATS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
"""Files of these formats go into the shards as they are; others are stored as PNG."""


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


@dataclass(frozen=True)
class Folder:
    """What lies in a folder of pictures."""

    files: dict[str, list[Path]]
    """Class name to its files, in order."""
    num_beside: int
    """Files that lie beside the class folders and are not used."""


def scan_folder(root: Path) -> Folder:
    """Class folders under ``root`` with all files below them; hidden files are passed over.

    Raises:
        ValueError: no folder, or nothing in it that could be a class.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; expected {root}/<class>/<image>")
    files: dict[str, list[Path]] = {}
    num_beside = 0
    for entry in sorted(root.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found = sorted(_files_below(entry))
            if found:
                files[entry.name] = found
        else:
            num_beside += 1
    if not files:
        raise ValueError(
            f"{root} holds no class folder with a file in it; expected {root}/<class>/<image>"
        )
    return Folder(files, num_beside)


def folder_items(
    root: Path, folder: Folder, splits: Mapping[str, str], max_side: int
) -> list[Item]:
    """Items of all files whose path relative to ``root`` has a split in ``splits``."""
    items = []
    for label, (name, paths) in enumerate(folder.files.items()):
        for path in paths:
            source = path.relative_to(root).as_posix()
            if source in splits:
                content = StoredImage(str(path), max_side)
                items.append(Item(source, label, name, splits[source], content))
    return items


def folder_classes(root: Path, folder: Folder) -> dict[str, list[str]]:
    """The sources of each class: paths relative to ``root``."""
    return {
        name: [path.relative_to(root).as_posix() for path in paths]
        for name, paths in folder.files.items()
    }


def encode_file(content: StoredImage) -> Encoded:
    """The image's bytes, checked by decoding them; resized or converted where asked."""
    try:
        data = content.read()
        picture = open_image(data)
    except (ImageError, OSError) as error:
        reason = getattr(error, "strerror", None)
        return Encoded(refused=f"cannot be read ({reason.lower()})" if reason else str(error))
    with Image.open(io.BytesIO(data)) as header:
        extension = KEPT_FORMATS.get(header.format or "", "")
    if content.max_side and max(picture.size) > content.max_side:
        picture.thumbnail((content.max_side, content.max_side), Image.Resampling.LANCZOS)
        data, extension = _encode(picture, "JPEG"), "jpg"
    elif not extension:
        data, extension = _encode(picture, "PNG"), "png"
    return Encoded(data, extension, *picture.size)


def _encode(picture: Image.Image, kind: str) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, quality=92)
    return target.getvalue()


def _files_below(folder: Path) -> Iterator[Path]:
    """Files, and links that lead nowhere: those are refused when they are read."""

    def fail(error: OSError) -> None:
        raise error  # or a folder that may not be read would look like an empty one

    for here, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(here, name)
            if not name.startswith(".") and (path.is_file() or not path.exists()):
                yield path
