"""Which images are for training and which for testing: by class, or as a file says."""

import csv
import io
import logging
import random
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

SPLIT_PATTERN = re.compile(r"\w[\w-]*")


def split_by_class(classes: Mapping[str, Sequence[str]], share: float, seed: int) -> dict[str, str]:
    """Split of each source: ``train`` for a random ``share`` of the classes, else ``test``.

    Raises:
        ValueError: the share leaves one side without a class.
    """
    names = list(classes)
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
    there = set(known)
    if unknown := [source for source in splits if source not in there]:
        raise ValueError(
            f"--split-file {path} names {len(unknown)} images that are not there, the first "
            f"{unknown[0]!r}; expected paths like {min(there)!r}"
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
