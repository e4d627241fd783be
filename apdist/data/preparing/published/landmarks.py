"""Google Landmarks v2: images at <part>/a/b/c/<id>.jpg by the first letters of their id.

Weyand, Araujo, Cao, Sim, CVPR 2020, arXiv:2004.01804; the cleaned list of training images is
Yokoo et al.'s, arXiv:2003.11211.
"""

import re
from collections.abc import Container, Iterator
from pathlib import Path

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.preparing.published.listing import Entry, Listing, unlabelled
from apdist.data.preparing.published.place import Place, integer
from apdist.data.text import printable

ID = re.compile(r"[0-9a-f]{16}")
BLOCK_BYTES = 1 << 24
"""More than any row: a landmark has thousands of images."""
SUBSETS = {"Private": "", "Public": "public"}
"""Which ground truth a query belongs to: published figures are those of the private one."""


def read_train(place: Place) -> Listing:
    """Training images: one a row in ``train.csv``, one landmark a row in ``train_clean.csv``."""
    (name,) = place.which.lists
    path = place.file(name)
    column = "images" if name == "train_clean.csv" else "id"
    entries = []
    for line, (landmark, images) in _rows(path, "landmark_id", column):
        label = str(integer(path, line, "landmark_id", landmark))
        for image in _ids(path, line, images):
            entries.append(Entry(_file("train", image), label, label, "train"))
    return Listing(entries)


def read_retrieval(place: Place) -> Listing:
    """The index as the database, and the test images that are not ignored as queries."""
    index = place.file("index.csv")
    database = {
        image: None for line, (ids,) in _rows(index, "id") for image in _ids(index, line, ids)
    }
    path = place.file("retrieval_solution_v2.1.csv")
    judged: dict[str, list[JudgedQuery]] = {name: [] for name in SUBSETS.values()}
    for line, (image, positives, usage) in _rows(path, "id", "images", "Usage"):
        if usage == "Ignored" or positives in ("", "None"):
            continue
        if usage not in SUBSETS:
            raise ValueError(
                f"{path} line {line}: Usage {usage[:60]!r} is none of {', '.join(SUBSETS)}, "
                "Ignored; download it again"
            )
        judged[SUBSETS[usage]].append(_query(path, line, image, positives, database))
    images = [unlabelled(_file("index", image), "database") for image in database]
    queries = [unlabelled(query.key, "query") for queries in judged.values() for query in queries]
    return Listing(images + queries, judged)


def _query(
    path: Path, line: int, query: str, positives: str, database: Container[str]
) -> JudgedQuery:
    images = _ids(path, line, positives)
    if unknown := [image for image in images if image not in database]:
        raise ValueError(
            f"{path} line {line}: image {unknown[0]} is not in index.csv; download both again"
        )
    key, *others = _ids(path, line, query)
    if others:
        raise ValueError(f"{path} line {line}: expected one id, got {query[:60]!r}")
    return JudgedQuery(
        key=_file("test", key), positives=tuple(_file("index", image) for image in images)
    )


def _rows(path: Path, *columns: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Number and cells of each row; Arrow reads millions, and cells of any length."""
    import pyarrow as pa
    from pyarrow import csv

    try:
        table = csv.read_csv(
            path,
            csv.ReadOptions(block_size=BLOCK_BYTES),
            convert_options=csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string())
            ),
        )
    except (pa.ArrowException, OSError) as error:
        reason = printable(str(error).strip("'\"")[:200])
        raise ValueError(
            f"{path} cannot be read as a table of {', '.join(columns)} ({reason}); "
            "download it again"
        ) from error
    # Row 1 is the header.
    return enumerate(zip(*(column.to_pylist() for column in table.columns), strict=True), 2)


def _ids(path: Path, line: int, text: str) -> list[str]:
    ids = text.split() or [""]
    if odd := [image for image in ids if not ID.fullmatch(image)]:
        raise ValueError(
            f"{path} line {line}: {odd[0][:60]!r} is no id of 16 letters; the file is damaged or "
            "cut: download it again"
        )
    return ids


def _file(part: str, image: str) -> str:
    return "/".join((part, *image[:3], f"{image}.jpg"))
