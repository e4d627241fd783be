from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from apdist.data.preparing.published import cars
from apdist.data.preparing.published.listing import Entry
from apdist.data.preparing.published.place import Place
from tests.published import drawn


def test_the_first_98_classes_are_trained_on(tmp_path: Path) -> None:
    entries = cars.read(Place(drawn("cars", tmp_path), tmp_path)).entries
    assert [(entry.label, entry.split) for entry in entries] == [
        ("1", "train"),
        ("1", "train"),
        ("98", "train"),
        ("99", "test"),
        ("99", "test"),
    ]
    assert entries[2] == Entry("car_ims/000003.jpg", "98", "Car 98 Ä", "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected annotations and class_names, found nothing"),
        ({"annotations": 3, "class_names": "x"}, "image 1: expected relative_im_path, a text, and"),
        ({"relative_im_path": "a.jpg", "class": 0}, "image 1: expected relative_im_path, a text"),
        ({"relative_im_path": "a.jpg", "class": 2}, "image 1: expected relative_im_path, a text"),
        ({"relative_im_path": "a.jpg", "class": 1.5}, "image 1: expected relative_im_path, a tex"),
        ({"relative_im_path": "a.jpg", "class": "x"}, "image 1: expected relative_im_path, a text"),
        ({"relative_im_path": "a.jpg", "class": [1, 2]}, "image 1: expected relative_im_path, a "),
        ({"relative_im_path": "a.jpg"}, "image 1: expected relative_im_path, a text"),
        ({"relative_im_path": 7, "class": 1}, "image 1: expected relative_im_path, a text"),
    ],
)
def test_other_contents_are_refused(
    tmp_path: Path, content: dict[str, object], message: str
) -> None:
    place = Place(drawn("cars", tmp_path), tmp_path)
    if "relative_im_path" in content:
        names = np.array(["Car"], dtype=object)
        content = {"annotations": content, "class_names": names}
    savemat(tmp_path / "cars_annos.mat", content)
    with pytest.raises(ValueError, match=message):
        cars.read(place)
