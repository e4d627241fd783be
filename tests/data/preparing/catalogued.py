"""Shards of others and their catalogue, for the tests."""

import shutil
from pathlib import Path

from apdist.data.preparing.cataloguing import Catalogued, catalogue_shards
from apdist.data.preparing.finding import find_shards
from apdist.data.preparing.samples import Rules
from tests.pictures import encoded, picture

HAS_TAR = shutil.which("tar") is not None


IMAGE = encoded(picture(0, 0), "JPEG")


def catalogue(root: Path, *, skip: bool = False, processes: int = 1, **rules: str) -> Catalogued:
    where = str(root)
    return catalogue_shards(
        where, find_shards(where), where, Rules(**rules), skip=skip, num_processes=processes
    )


def cut(root: Path, size: int) -> None:
    path = root / "a.tar"
    path.write_bytes(path.read_bytes()[:size])
