from pathlib import Path

import pytest

from apdist.data.preparing.published import cub
from apdist.data.preparing.published.listing import Entry
from apdist.data.preparing.published.place import Place
from tests.published import drawn, write


def test_the_first_100_classes_are_trained_on(tmp_path: Path) -> None:
    entries = cub.read(Place(drawn("cub", tmp_path), tmp_path)).entries
    assert [(entry.label, entry.split) for entry in entries] == [
        *[("1", "train")] * 2,
        *[("100", "train")] * 2,
        *[("101", "test")] * 2,
    ]
    image = "images/001.Black_footed_Albatross/Bird_0001_0.jpg"
    assert entries[0] == Entry(image, "1", "001.Black_footed_Albatross", "train")


def test_the_order_of_the_lines_does_not_matter(tmp_path: Path) -> None:
    place = Place(drawn("cub", tmp_path), tmp_path)
    entries = cub.read(place).entries
    path = tmp_path / "image_class_labels.txt"
    write(tmp_path, path.name, *reversed(path.read_text().splitlines()))
    assert cub.read(place).entries == entries


def test_a_number_that_comes_twice_is_refused(tmp_path: Path) -> None:
    place = Place(drawn("cub", tmp_path), tmp_path)
    write(tmp_path, "classes.txt", "1 001.A", "1 002.B")
    with pytest.raises(ValueError, match=r"classes.txt line 2: number 1 comes twice"):
        cub.read(place)
