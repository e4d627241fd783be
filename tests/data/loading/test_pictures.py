"""Pictures of a folder: which they are, and that they are read as those of shards."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from apdist.data.images import Fit, evaluation_image
from apdist.data.loading.pictures import find_pictures, picture_batches
from apdist.data.preparing.tally import Tally
from tests.pictures import encoded, picture

FIT = Fit(side=16, resize="longest")


def filled(root: Path) -> Path:
    for number, name in enumerate(["b.png", "a/2.jpg", "a/b c/ü.png", "a/no-extension"]):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        side = 20 if number % 2 else 32
        (root / name).write_bytes(encoded(picture(number, 0, side).crop((0, 0, side, 20))))
    (root / "a" / ".DS_Store").write_text("")
    (root / "a" / "notes.txt").write_text("")
    return root


def test_pictures_are_found_in_all_folders_and_others_are_told(tmp_path: Path) -> None:
    tally = Tally()
    found = find_pictures(str(filled(tmp_path)), tally)
    assert [p.key for p in found] == ["a/2.jpg", "a/b c/ü.png", "a/no-extension", "b.png"]
    assert [p.folder for p in found] == ["a", "b c", "a", ""]
    assert all(Path(p.uri).is_file() for p in found)
    assert sum(number for number, _ in tally.kinds.values()) == 2


def test_a_name_that_is_no_text_has_a_key_that_is_one(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(encoded(picture(1, 1)))
    [found] = find_pictures(str(tmp_path), Tally())
    assert found.key == "caf\\xe9.png"
    assert Path(found.uri).is_file()


@pytest.mark.parametrize(("name", "message"), [("no", "does not exist"), ("file", "is no folder")])
def test_what_is_no_folder_of_pictures_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=f"{name} {message}.*expected a folder of pictures"):
        find_pictures(str(tmp_path / name), Tally())
    with pytest.raises(ValueError, match="holds no picture"):
        find_pictures(str(tmp_path), Tally())


@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_batches_hold_each_picture_once_as_it_is_at_evaluation(
    tmp_path: Path, batch_size: int
) -> None:
    pictures = find_pictures(str(filled(tmp_path)), Tally())
    Path(pictures[1].uri).write_bytes(b"damaged")
    told: list[tuple[str, str]] = []
    sizes = np.zeros(4, dtype=np.int64)
    seen: dict[int, torch.Tensor] = {}
    for rows, images in picture_batches(
        pictures,
        fit=FIT,
        batch_size=batch_size,
        refused=lambda picture, why: told.append((picture.key, why)),
        num_bytes=sizes,
    ):
        assert 1 <= len(rows) <= batch_size
        seen |= dict(zip(rows.tolist(), images, strict=True))
    assert sorted(seen) == [0, 2, 3]
    assert [key for key, _ in told] == ["a/b c/ü.png"]
    for row, image in seen.items():
        data = Path(pictures[row].uri).read_bytes()
        assert sizes[row] == len(data)
        assert torch.equal(image, torch.from_numpy(evaluation_image(data, FIT)))
