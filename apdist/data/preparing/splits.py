"""Which images are for training and which for testing: by class, or as a file says."""

import logging
import random
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from apdist.data.preparing.tables.spreadsheets import Rows, read_spreadsheet
from apdist.data.text import composed

logger = logging.getLogger(__name__)

SPLIT_PATTERN = re.compile(r"\w[\w-]*")


def split_by_class(classes: Mapping[str, Sequence[str]], share: float, seed: int) -> dict[str, str]:
    """Split of each source: ``train`` for a random ``share`` of the classes, else ``test``.

    Raises:
        ValueError: the share leaves one side without a class.
    """
    names = list(classes)
    if len(names) == 1 and share < 1:
        raise ValueError(
            f"all pictures are of one class, {names[0]!r}; it takes at least "
            "2 to train on, and 2 to evaluate"
        )
    random.Random(seed).shuffle(names)  # noqa: S311
    num_train = round(share * len(names))
    if not 0 < share <= 1 or num_train == 0 or (share < 1 and num_train == len(names)):
        raise ValueError(
            f"--split-by-class {share} leaves train or test without one of the {len(names)} "
            "classes; choose a share that gives both at least one, or 1 for training only"
        )
    train = set(names[:num_train])
    return {
        source: "train" if name in train else "test"
        for name, sources in classes.items()
        for source in sources
    }


def read_split_file(path: Path, known: Collection[str]) -> dict[str, str]:
    """Splits from a .csv or .tsv file with the columns ``path`` and ``split``.

    Args:
        path: the file.
        known: the sources of all images.

    Raises:
        ValueError: a column is missing, a file is unknown or in two splits, a split is no plain
            word.
    """
    header, rows = read_spreadsheet(path, f"--split-file {path}")
    if not {"path", "split"} <= set(header):
        raise ValueError(
            f"--split-file {path} needs a header with the columns path and split, "
            f"got {', '.join(header) or 'nothing'}"
        )
    splits = _splits_of_rows(path, rows)
    there = set(known)
    if unknown := [source for source in splits if source not in there]:
        raise ValueError(
            f"--split-file {path} names {len(unknown)} images that are not there, the first "
            f"{unknown[0]!r}; expected paths like {min(there)!r}{_hint(unknown[0], there)}"
        )
    if odd := [split for split in splits.values() if not SPLIT_PATTERN.fullmatch(split)]:
        raise ValueError(f"--split-file {path}: split {odd[0]!r} is no plain word like train")
    return splits


def _hint(source: str, known: Collection[str]) -> str:
    """What to change in a path that is nearly one of the known ones."""
    if source.replace("\\", "/") in known:
        return " (with / in place of \\)"
    if composed(source) in map(composed, known):
        return " (it is there in another Unicode normal form)"
    return ""


def _splits_of_rows(path: Path, rows: Rows) -> dict[str, str]:
    """Split of each source; a file in two splits would be trained on and tested with."""
    splits: dict[str, str] = {}
    num_repeated = 0
    for _, row in rows:
        source, split = row["path"].strip(), row["split"].strip()
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
