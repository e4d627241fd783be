"""Groups of equal pictures, what is kept of them, and in which order they are told."""

from pathlib import Path

import numpy as np
from PIL import Image

from apdist.audit.candidates import candidate_pairs, chained, thumbnail_neighbours
from apdist.audit.correlation import match
from apdist.audit.duplicates import (
    Duplicates,
    find_duplicates,
    joined,
    least_doubtful_first,
)
from apdist.audit.looks import look
from tests.audit.faults import SIZE, Shot, photo, png, rows_of, write_shots
from tests.pictures import encoded


def found_in(out: Path, shots: list[Shot]) -> tuple[list[Duplicates], dict[str, int]]:
    catalogue = write_shots(out, shots)
    looks = look(catalogue)
    pairs = candidate_pairs(looks, thumbnail_neighbours(looks), None)
    groups = find_duplicates(catalogue, looks, pairs, match(looks, pairs), chained(looks.digests))
    return groups, rows_of(catalogue)


def test_copies_of_each_kind_are_told_apart_and_leaks_come_first(tmp_path: Path) -> None:
    others = [png(number) for number in range(50, 58)]
    jpeg = Shot("near.jpg", encoded(photo(3), "JPEG", quality=60), split="test")
    groups, rows = found_in(
        tmp_path / "s",
        [
            *others,
            *(png(1, f"bytes {n}.png") for n in range(3)),
            png(2, "pixels.png"),
            Shot("pixels.bmp", encoded(photo(2), "BMP")),
            png(3, "near.png", label="b"),
            jpeg,
        ],
    )
    told = [(group.how, group.is_leak, set(group.rows)) for group in groups]
    assert told == [
        ("copy", True, {rows["near.png"], rows["near.jpg"]}),
        ("equal bytes", False, {rows[f"bytes {n}.png"] for n in range(3)}),
        ("equal pixels", False, {rows["pixels.png"], rows["pixels.bmp"]}),
    ]
    assert groups[0].splits == ("test", "train")
    assert len(groups[0].labels) == 2
    assert groups[0].score < 1
    # The larger file of two of equal size is kept.
    assert groups[0].rows[0] == rows["near.png"]


def test_flat_pictures_are_copies_only_by_their_bytes(tmp_path: Path) -> None:
    white, black = (encoded(Image.new("RGB", SIZE, colour)) for colour in ("white", "black"))
    shots = [Shot("w1.png", white), Shot("w2.png", white), Shot("b.png", black), png(1)]
    groups, rows = found_in(tmp_path / "s", shots)
    assert [set(group.rows) for group in groups] == [{rows["w1.png"], rows["w2.png"]}]


def stroke(length: int) -> Image.Image:
    """A line on white."""
    image = Image.new("RGB", SIZE, "white")
    image.paste("black", (47, 40 - length // 2, 50, 40 + length // 2))
    return image


def test_of_strokes_on_white_only_the_same_are_copies(tmp_path: Path) -> None:
    shots = [Shot(f"{length}.png", encoded(stroke(length))) for length in (30, 34, 38)]
    again = Shot("again.png", encoded(stroke(30).resize((192, 160), Image.Resampling.BICUBIC)))
    groups, rows = found_in(tmp_path / "s", [*shots, again])
    assert [set(group.rows) for group in groups] == [{rows["30.png"], rows["again.png"]}]


def test_the_least_doubtful_label_is_kept() -> None:
    group = Duplicates(rows=(4, 1, 2), how="copy", score=1, splits=("a",), labels=(0, 1))
    (found,) = least_doubtful_first([group], np.array([0, 0.42, 0.1, 0, 0.98]))
    assert found.rows == (2, 1, 4)
    (same,) = least_doubtful_first([group], np.full(5, 0.98))
    assert same.rows == (4, 1, 2)


def test_joined_rows_share_the_smallest() -> None:
    pairs = np.array([[5, 6], [1, 2], [6, 2], [3, 7]])
    assert joined(8, pairs).tolist() == [0, 1, 1, 3, 4, 1, 1, 3]
