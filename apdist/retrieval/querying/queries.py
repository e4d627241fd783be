"""Where queries lie: a picture, a folder, a list of addresses, a prefix on a server."""

from __future__ import annotations

import os
from collections.abc import Sequence

from apdist.config import suggestion
from apdist.data import storage
from apdist.data.loading.pictures import find_pictures
from apdist.data.preparing.kinds import PICTURES, extension
from apdist.data.preparing.tables.spreadsheets import spreadsheet_rows
from apdist.data.preparing.tally import Tally
from apdist.data.text import decoded

LISTS = ("txt", "csv", "tsv")
"""Extensions of lists."""


def pictures_at(places: Sequence[str | os.PathLike[str]], column: str = "path") -> list[str]:
    """Addresses of all pictures at ``places``, in their order; whether each is there is not asked.

    Args:
        places: each a picture, a folder or prefix with pictures at any depth, a .txt with an
            address a line, or a .csv or .tsv with a column of them. Relative addresses in a list
            start from its folder.
        column: of a .csv or .tsv.

    Raises:
        ValueError: there is no picture in one of them, a list cannot be read, or lacks the column.
    """
    return [uri for place in places for uri in _pictures(os.fspath(place), column)]


def _pictures(place: str, column: str) -> list[str]:
    if (path := storage.local_path(place)) is not None and path.is_dir():
        return _below(place)
    kind = extension(place.rpartition("/")[2])
    if kind in LISTS:
        return _listed(place, kind, column)
    if path is not None or storage.is_read_only(place) or PICTURES.fullmatch(kind):
        return [place]
    try:
        return _below(storage.trimmed(place))
    except ValueError:
        if storage.exists(place):  # a picture without an extension
            return [place]
        raise


def _below(root: str) -> list[str]:
    return [picture.uri for picture in find_pictures(root, Tally())]


def _listed(place: str, kind: str, column: str) -> list[str]:
    data = storage.read_bytes(place)
    if kind == "txt":
        try:
            lines = decoded(data).splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{place} is not a text file in UTF-8; save it as UTF-8") from error
    else:
        names, rows = spreadsheet_rows(data, place)
        if column not in names:
            raise ValueError(
                f"{place} has no column {column!r}{suggestion(column, names)}; it has "
                f"{', '.join(names) or 'nothing'}: name one with --column"
            )
        lines = [cells[column] for _, cells in rows]
    root = place.rpartition("/")[0] or ("/" if place.startswith("/") else ".")
    found = [_joined(root, address) for line in lines if (address := line.strip())]
    if not found:
        raise ValueError(f"{storage.shown(place)} names no picture; expected an address a line")
    return found


def _joined(root: str, address: str) -> str:
    try:
        return address if root == "." else storage.join(root, address)
    except storage.StorageError:  # of no store that is known: reading it will tell
        return address
