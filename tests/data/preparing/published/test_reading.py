from dataclasses import replace
from pathlib import Path

import pytest

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.preparing.published.reading import keyed, read_published
from apdist.data.preparing.published.sets import SETS
from tests.published import draw, drawn


def test_a_set_is_no_published_one_with_other_counts(tmp_path: Path) -> None:
    drawn("sop", tmp_path)
    with pytest.raises(
        ValueError, match="4 train images, not 59,551; 6 test images, not 60,502; 2 train classes, "
    ):
        read_published(SETS["sop"], tmp_path)
    assert len(read_published(SETS["sop"], tmp_path, is_subset=True).items) == 10


def test_other_numbers_of_queries_are_told(tmp_path: Path) -> None:
    which = replace(drawn("holidays", tmp_path), num_queries=3)
    with pytest.raises(ValueError, match="2 judged queries, not 3"):
        read_published(which, tmp_path)


def test_the_first_names_of_many_differing_images_are_told(tmp_path: Path) -> None:
    which = drawn("sop", tmp_path)
    for path in list(tmp_path.rglob("*.JPG"))[:5]:
        path.unlink()
    for number in range(4):
        draw(tmp_path, f"sofa_final/{number}.jpg")
    with pytest.raises(ValueError, match="lacks 5 images") as error:
        read_published(which, tmp_path)
    assert (
        "holds 4 pictures (sofa_final/0.jpg, sofa_final/1.jpg, sofa_final/2.jpg, ...) that sop"
        in str(error.value)
    )


def test_a_folder_of_no_picture_of_the_set_is_no_subset_either(tmp_path: Path) -> None:
    which = drawn("sop", tmp_path)
    for path in tmp_path.rglob("*.JPG"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no picture that the lists of sop name"):
        read_published(which, tmp_path, is_subset=True)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    which = drawn("sop", tmp_path)
    draw(tmp_path, "sofa_final/x.jpg")
    (tmp_path / "bicycle_final/111_0.JPG").unlink()
    tally = read_published(which, tmp_path, is_subset=True).tally
    assert tally.kinds == {
        "picture that no list names: left out": (1, "sofa_final/x.jpg"),
        "image of a list that is not there: left out": (1, "bicycle_final/111_0.JPG"),
    }


def test_names_become_keys_and_lost_ones_are_counted() -> None:
    query = JudgedQuery(key="q", easy=("a", "b"), hard=("c",), junk=("d",))
    keys = {"q": "Q", "a": "A", "c": "C"}
    left, lost = keyed([query, replace(query, key="gone")], keys)
    assert left == (JudgedQuery(key="Q", easy=("A",), hard=("C",)),)
    assert lost == 3
