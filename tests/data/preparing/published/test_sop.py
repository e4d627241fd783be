from pathlib import Path

from apdist.data.preparing.published import sop
from apdist.data.preparing.published.listing import Entry
from apdist.data.preparing.published.place import Place
from tests.published import drawn


def test_the_two_lists_are_the_splits_and_products_the_classes(tmp_path: Path) -> None:
    entries = sop.read(Place(drawn("sop", tmp_path), tmp_path)).entries
    assert entries[0] == Entry("bicycle_final/111_0.JPG", "1", "1", "train")
    assert entries[-1] == Entry("bicycle_final/115_1.JPG", "5", "5", "test")
    assert len(entries) == 10
