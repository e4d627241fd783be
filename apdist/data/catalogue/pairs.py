"""Pairs of images that show the same, from a person's table.

Shapes: m pairs.
"""

import csv

import numpy as np
from numpy.typing import NDArray

from apdist.config import suggestion
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.text import decoded

_SHOWN = 3


def read_pairs(uri: str, catalogue: Catalogue) -> NDArray[np.int64]:
    """Rows (m, 2) of ``catalogue`` that the lines of a CSV file name, by source or by key.

    Raises:
        ValueError: a line has other than two names, or names an image that is not there.
    """
    try:
        lines = [line for line in csv.reader(decoded(storage.read_bytes(uri)).splitlines()) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{uri} is no CSV file ({error}); give two names a line") from error
    for number, line in enumerate(lines, 1):
        if len(line) != 2:
            raise ValueError(
                f"{uri}, line {number}: expected two images, first,second, got {len(line)} values"
            )
    if not lines:
        raise ValueError(f"{uri} names no pair; give two images a line, first,second")
    rows = {key: row for row, key in enumerate(catalogue.column("key").to_pylist())}
    rows |= {source: row for row, source in enumerate(catalogue.column("source").to_pylist())}
    names = [name.strip() for line in lines for name in line]
    missing = [name for name in dict.fromkeys(names) if name not in rows]
    if missing:
        listed = ", ".join(map(repr, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
        raise ValueError(
            f"{uri} names {len(missing)} images that are not in the split: {listed}"
            f"{suggestion(missing[0], list(rows)[:10000])}"
        )
    found = np.array([rows[name] for name in names], dtype=np.int64).reshape(-1, 2)
    if alone := int((found[:, 0] == found[:, 1]).sum()):
        raise ValueError(f"{uri} has {alone} pairs of an image with itself; take them out")
    return found
