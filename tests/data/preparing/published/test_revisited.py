import pickle
from pathlib import Path

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.preparing.published import revisited
from apdist.data.preparing.published.place import DAMAGED, Place
from tests.published import BOX, drawn


def test_rows_of_the_list_become_paths_and_queries_lie_apart(tmp_path: Path) -> None:
    listing = revisited.read(Place(drawn("roxford5k", tmp_path), tmp_path))
    assert [entry.split for entry in listing.entries] == ["database"] * 6 + ["query"] * 2
    assert len({entry.label for entry in listing.entries}) == 8
    images = [f"jpg/all_souls_00000{number}.jpg" for number in range(6)]
    assert listing.judged[""][0] == JudgedQuery(
        key="jpg/all_souls_000100.jpg",
        box=BOX,
        easy=(images[0], images[1]),
        hard=(images[4],),
        junk=(images[3],),
    )


def test_distractors_are_a_split_of_their_own(tmp_path: Path) -> None:
    listing = revisited.read_distractors(Place(drawn("revisitop1m", tmp_path), tmp_path))
    paths = ["jpg/0/ab.jpg", "jpg/0/cd.jpg", "jpg/1/ef.jpg"]
    assert [(entry.path, entry.split) for entry in listing.entries] == [
        (path, "distractors") for path in paths
    ]
    assert not listing.judged


def test_pictures_of_paris_that_are_known_to_be_damaged_are_nobodys(tmp_path: Path) -> None:
    place = Place(drawn("rparis6k", tmp_path), tmp_path)
    assert len(place.pictures) == 8
    assert place.tally.kinds == {DAMAGED: (1, "jpg/paris_louvre_000136.jpg")}


def test_a_query_that_is_of_the_database_is_listed_once(tmp_path: Path) -> None:
    place = Place(drawn("roxford5k", tmp_path), tmp_path)
    path = tmp_path / "gnd_roxford5k.pkl"
    content = pickle.loads(path.read_bytes())
    content["qimlist"][1] = content["imlist"][3]
    path.write_bytes(pickle.dumps(content))
    listing = revisited.read(place)
    assert [entry.split for entry in listing.entries] == ["database"] * 6 + ["query"]
    assert listing.judged[""][1].key == "jpg/all_souls_000003.jpg"
