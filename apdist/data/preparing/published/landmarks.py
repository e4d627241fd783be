"""Google Landmarks v2: images at <part>/a/b/c/<id>.jpg by the first letters of their id.

Weyand, Araujo, Cao, Sim, CVPR 2020, arXiv:2004.01804; the cleaned list of training images is
Yokoo et al.'s, arXiv:2003.11211.
"""

import re
from collections.abc import Container, Iterator
from pathlib import Path

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.preparing.published.listing import Entry, Listing, unlabelled
from apdist.data.preparing.published.place import Place, whole
from apdist.data.preparing.tables.spreadsheets import read_spreadsheet

ID = re.compile(r"[0-9a-f]{16}")
SUBSETS = {"Private": "", "Public": "public"}
"""Which ground truth a query belongs to: published figures are those of the private one."""


def read_train(place: Place) -> Listing:
    """Training images: one a row in ``train.csv``, one landmark a row in ``train_clean.csv``."""
    (name,) = place.which.lists
    path = place.file(name)
    column = "images" if name == "train_clean.csv" else "id"
    entries = []
    for line, row in _rows(path, "landmark_id", column):
        label = str(whole(path, line, "landmark_id", row["landmark_id"]))
        for image in _ids(path, line, row[column]):
            entries.append(Entry(_file("train", image), label, label, "train"))
    return Listing(entries)


def read_retrieval(place: Place) -> Listing:
    """The index as the database, and the test images that are not ignored as queries."""
    index = place.file("index.csv")
    database = {
        image: None for line, row in _rows(index, "id") for image in _ids(index, line, row["id"])
    }
    path = place.file("retrieval_solution_v2.1.csv")
    judged: dict[str, list[JudgedQuery]] = {name: [] for name in SUBSETS.values()}
    for line, row in _rows(path, "id", "images", "Usage"):
        if row["Usage"] == "Ignored" or row["images"] in ("", "None"):
            continue
        if row["Usage"] not in SUBSETS:
            raise ValueError(
                f"{path} line {line}: Usage {row['Usage'][:60]!r} is none of "
                f"{', '.join(SUBSETS)}, Ignored; download it again"
            )
        judged[SUBSETS[row["Usage"]]].append(_query(path, line, row, database))
    images = [unlabelled(_file("index", image), "database") for image in database]
    queries = [unlabelled(query.key, "query") for queries in judged.values() for query in queries]
    return Listing(images + queries, judged)


def _query(path: Path, line: int, row: dict[str, str], database: Container[str]) -> JudgedQuery:
    (image,), positives = _ids(path, line, row["id"]), _ids(path, line, row["images"])
    if unknown := [positive for positive in positives if positive not in database]:
        raise ValueError(
            f"{path} line {line}: image {unknown[0]} is not in index.csv; download both again"
        )
    return JudgedQuery(
        key=_file("test", image),
        positives=tuple(_file("index", positive) for positive in positives),
    )


def _rows(path: Path, *columns: str) -> Iterator[tuple[int, dict[str, str]]]:
    header, rows = read_spreadsheet(path, str(path))
    if missing := [name for name in columns if name not in header]:
        raise ValueError(
            f"{path} has no column {missing[0]}; it has {', '.join(header)[:200] or 'nothing'}: "
            "download it again"
        )
    return rows


def _ids(path: Path, line: int, text: str) -> list[str]:
    ids = text.split()
    if odd := [image for image in ids if not ID.fullmatch(image)]:
        raise ValueError(
            f"{path} line {line}: {odd[0][:60]!r} is no id of 16 letters; the file is damaged or "
            "cut: download it again"
        )
    return ids


def _file(part: str, image: str) -> str:
    return "/".join((part, *image[:3], f"{image}.jpg"))
