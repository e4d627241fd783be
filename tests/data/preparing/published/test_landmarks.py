from pathlib import Path

from apdist.data.preparing.published import landmarks
from apdist.data.preparing.published.place import Place
from tests.published import IDS, drawn, landmark, write


def test_one_list_has_an_image_a_row_and_the_cleaned_one_a_landmark(tmp_path: Path) -> None:
    entries = landmarks.read_train(Place(drawn("gldv2", tmp_path), tmp_path)).entries
    assert [entry.label for entry in entries] == ["0", "0", "1", "1"]
    assert entries[0].path == landmark("train", IDS[0])
    place = Place(drawn("gldv2_clean", tmp_path), tmp_path)
    assert landmarks.read_train(place).entries == entries[2:]


def test_a_landmark_may_have_more_images_than_a_cell_of_a_spreadsheet_holds(tmp_path: Path) -> None:
    place = Place(drawn("gldv2_clean", tmp_path), tmp_path)
    images = [f"{number:016x}" for number in range(10_000)]
    write(tmp_path, "metadata/train_clean.csv", "landmark_id,images", f"7,{' '.join(images)}")
    assert len(landmarks.read_train(place).entries) == 10_000


def test_queries_that_are_ignored_are_left_out_and_public_ones_apart(tmp_path: Path) -> None:
    listing = landmarks.read_retrieval(Place(drawn("gldv2_retrieval", tmp_path), tmp_path))
    assert [entry.split for entry in listing.entries] == ["database"] * 4 + ["query"] * 2
    assert len({entry.label for entry in listing.entries}) == 6
    assert [query.key for query in listing.judged[""]] == [landmark("test", IDS[4])]
    assert [query.key for query in listing.judged["public"]] == [landmark("test", IDS[5])]
    positives = tuple(landmark("index", image) for image in (IDS[0], IDS[2]))
    assert listing.judged[""][0].positives == positives
