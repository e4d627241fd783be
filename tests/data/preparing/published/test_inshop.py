from pathlib import Path

import pytest

from apdist.data.preparing.published import inshop
from apdist.data.preparing.published.place import Place
from apdist.data.preparing.published.reading import read_published
from tests.published import drawn


@pytest.mark.parametrize("folder", ["", "Img"])
def test_train_query_and_gallery_are_the_splits(tmp_path: Path, folder: str) -> None:
    which = drawn("inshop", tmp_path)
    if folder:
        (tmp_path / "Img").mkdir()
        (tmp_path / "img").rename(tmp_path / "Img" / "img")
    found = read_published(which, tmp_path)
    splits = ["train"] * 2 + ["query", "gallery"] * 2 + ["train"] * 2
    assert [item.split for item in found.items] == splits
    assert len({item.label for item in found.items if item.split == "query"}) == 2
    assert found.items[2].label == found.items[3].label
    start = f"{folder}/img" if folder else "img"
    assert found.items[0].source == f"{start}/WOMEN/Dresses/id_00000001/00_1_front.jpg"


def test_a_list_that_was_cut_does_not_keep_the_promise_of_its_first_line(tmp_path: Path) -> None:
    place = Place(drawn("inshop", tmp_path), tmp_path)
    path = tmp_path / "Eval" / "list_eval_partition.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-2]))
    with pytest.raises(ValueError, match="promises 8 images in its first line and lists 6"):
        inshop.read(place)
