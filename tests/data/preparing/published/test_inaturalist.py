from pathlib import Path

from apdist.data.preparing.published import inaturalist
from apdist.data.preparing.published.listing import Entry
from apdist.data.preparing.published.place import Place
from tests.published import drawn


def test_the_class_is_the_folder_of_the_species(tmp_path: Path) -> None:
    entries = inaturalist.read(Place(drawn("inaturalist", tmp_path), tmp_path)).entries
    assert entries[0] == Entry("train_val2018/Aves/12/00121.jpg", "12", "Aves 12", "train")
    assert [entry.label for entry in entries] == ["12", "12", "7000", "7000", "3", "3"]
    assert entries[-1].split == "test"
