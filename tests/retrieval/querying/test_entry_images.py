import os
from pathlib import Path

import pytest

from apdist.data.storage import StorageError
from apdist.retrieval.querying.entry_images import image_of, place_of
from tests.retrieval.querying.conftest import Indexed, entries_of


def test_the_image_of_an_entry_is_read_from_its_shard_or_file(
    indexed: Indexed, tmp_path: Path
) -> None:
    entries = entries_of(indexed.catalogue).to_pylist()
    assert image_of(entries[3]) == indexed.encoded(3)
    assert len({place_of({**entry, "source": "of all"}) for entry in entries}) == 30
    (tmp_path / "a.png").write_bytes(b"some")
    alone = {"source": str(tmp_path / "a.png"), "shard": None}
    assert (image_of(alone), place_of(alone)) == (b"some", str(tmp_path / "a.png"))
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"other")
    shown = f"{tmp_path}/caf\\xe9.png"
    assert image_of({"source": shown}) == b"other"
    assert image_of({"shard": shown, "offset": 1, "size": 3}) == b"the"
    with pytest.raises(StorageError):
        image_of({"source": ""})
