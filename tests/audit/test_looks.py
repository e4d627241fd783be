"""One pass over the shards: thumbnails, hashes, and what cannot be used."""

from pathlib import Path

import numpy as np
from PIL import Image

from apdist.audit.looks import SIDE, look
from apdist.data import storage
from tests.audit.faults import SIZE, photo, png, rows_of, write_shots


def test_every_image_is_seen_in_its_row(tmp_path: Path) -> None:
    catalogue = write_shots(tmp_path / "s", [png(n) for n in range(5)])
    seen: list[int] = []
    looks = look(catalogue, progress=seen.append)
    assert seen[-1] == len(looks) == 5
    for name, row in rows_of(catalogue).items():
        small = photo(int(name.removesuffix(".png"))).resize(
            (SIDE, SIDE), Image.Resampling.BILINEAR
        )
        grey = np.asarray(small.convert("YCbCr"), np.float64)
        assert np.abs(looks.grey[row] - grey[..., 0]).max() <= 2
        blue = grey[..., 1].reshape(16, 4, 16, 4).mean(axis=(1, 3))
        assert np.abs(looks.colours[row, 0] - blue).max() <= 3
    assert (looks.ratios == SIZE[0] / SIZE[1]).all()
    assert len(set(looks.digests)) == 5


def test_damaged_images_are_noted_and_the_others_seen(tmp_path: Path) -> None:
    catalogue = write_shots(tmp_path / "s", [png(n) for n in range(3)])
    (name,) = catalogue.shards
    row = rows_of(catalogue)["1.png"]
    file = Path(storage.join(catalogue.root, name))
    data = bytearray(file.read_bytes())
    data[int(catalogue.column("offset")[row].as_py()) + 100] ^= 255
    file.write_bytes(data)
    looks = look(catalogue)
    assert list(looks.damaged) == [row]
    assert "differs from its checksum" in looks.damaged[row]
    assert looks.digests[row] == b""
    assert looks.grey.any(axis=(1, 2)).sum() == 2
