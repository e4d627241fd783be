"""A person's own pictures: IMAGES/<class>/<image> to items for the shard writer."""

import csv
import io
import logging
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from apdist.data.images import ImageError, open_image
from apdist.data.shards import Encoded, Item

logger = logging.getLogger(__name__)

KEPT_FORMATS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
"""Files of these formats go into the shards as they are; others are stored as PNG."""
SPLIT_PATTERN = re.compile(r"\w[\w-]*")


@dataclass(frozen=True)
class FolderContent:
    """One image file and what to do with it."""

    path: str
    max_side: int
    """Longest side in pixels after encoding; 0 keeps the file as it is."""


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
            found = sorted(p for p in entry.rglob("*") if p.is_file() and not _hidden(p, root))
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
                content = FolderContent(str(path), max_side)
                items.append(Item(source, label, name, splits[source], content))
    return items


def split_by_class(root: Path, folder: Folder, share: float, seed: int) -> dict[str, str]:
    """``train`` for a random ``share`` of the classes, ``test`` for the others; by source.

    Raises:
        ValueError: the share leaves one side without a class.
    """
    names = list(folder.files)
    random.Random(seed).shuffle(names)  # noqa: S311
    num_train = round(share * len(names))
    if not 0 < share <= 1 or num_train == 0 or (share < 1 and num_train == len(names)):
        raise ValueError(
            f"--split-by-class {share} leaves train or test without one of the {len(names)} "
            "classes; choose a share that gives both at least one, or 1 for training only"
        )
    train = set(names[:num_train])
    return {
        path.relative_to(root).as_posix(): "train" if name in train else "test"
        for name, paths in folder.files.items()
        for path in paths
    }


def read_split_file(path: Path, root: Path, folder: Folder) -> dict[str, str]:
    """Splits from a .csv or .tsv file with the columns ``path`` (under the folder) and ``split``.

    Raises:
        ValueError: a column is missing, a file is unknown or in two splits, a split is no plain
            word.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--split-file {path} cannot be read: {error}") from error
    rows = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in text[:4096] else ",")
    if not {"path", "split"} <= set(rows.fieldnames or ()):
        raise ValueError(
            f"--split-file {path} needs a header with the columns path and split, "
            f"got {', '.join(rows.fieldnames or ['nothing'])}"
        )
    splits = _splits_of_rows(path, rows)
    known = {p.relative_to(root).as_posix() for paths in folder.files.values() for p in paths}
    if unknown := [source for source in splits if source not in known]:
        raise ValueError(
            f"--split-file {path} names {len(unknown)} files that are not in {root}, "
            f"the first {unknown[0]!r}; expected CLASS/FILE as under {root}"
        )
    if odd := [split for split in splits.values() if not SPLIT_PATTERN.fullmatch(split)]:
        raise ValueError(f"--split-file {path}: split {odd[0]!r} is no plain word like train")
    return splits


def _splits_of_rows(path: Path, rows: "csv.DictReader[str]") -> dict[str, str]:
    """Split of each source; a file in two splits would be trained on and tested with."""
    splits: dict[str, str] = {}
    num_repeated = 0
    for row in rows:
        source, split = row["path"] or "", row["split"] or ""
        num_repeated += source in splits
        if splits.setdefault(source, split) != split:
            raise ValueError(
                f"--split-file {path} puts {source!r} into {splits[source]!r} and into {split!r}; "
                "keep one of these rows"
            )
    if not splits:
        raise ValueError(f"--split-file {path} names no file; expected a row for each image")
    if num_repeated:
        logger.warning(
            "--split-file %s repeats %d rows; each file is used once", path, num_repeated
        )
    return splits


def encode_file(content: FolderContent) -> Encoded:
    """The file's bytes, checked by decoding them; resized or converted where asked."""
    try:
        data = Path(content.path).read_bytes()
        picture = open_image(data)
    except (ImageError, OSError) as error:
        return Encoded(refused=str(error))
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


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
