"""Pairs of a person's table: found by source or key, or refused with the line or the name."""

from pathlib import Path

import pytest

from apdist.data.catalogue.pairs import read_pairs
from tests.pictures import write_small_set


def test_images_are_found_by_source_and_by_key(tmp_path: Path) -> None:
    catalogue = write_small_set(tmp_path / "set", num_classes=3, images_per_class=2)
    sources = catalogue.column("source").to_pylist()
    keys = catalogue.column("key").to_pylist()
    (tmp_path / "pairs.csv").write_text(f"{sources[4]},{keys[1]}\n\n {sources[0]} ,{sources[5]}\n")
    assert read_pairs(str(tmp_path / "pairs.csv"), catalogue).tolist() == [[4, 1], [0, 5]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no pair; give two images a line"),
        ("a,b\na\n", "line 2: expected two images, first,second, got 1 values"),
        (
            "class 0/pic 0.png,x\n",
            "names 2 images that are not in the split: .*; did you mean 'clas",
        ),
        ("class 0/picture 0.png,class 0/picture 0.png\n", "1 pairs of an image with itself"),
    ],
)
def test_what_is_no_pair_is_refused(tmp_path: Path, text: str, message: str) -> None:
    catalogue = write_small_set(tmp_path / "set", num_classes=3, images_per_class=2)
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_pairs(str(tmp_path / "pairs.csv"), catalogue)
