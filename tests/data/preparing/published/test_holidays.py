from pathlib import Path

from apdist.data.ground_truth.ground_truth import JudgedQuery
from apdist.data.preparing.published import holidays
from apdist.data.preparing.published.place import Place
from tests.published import draw, drawn


def test_the_first_of_a_group_is_searched_for_among_all_others(tmp_path: Path) -> None:
    which = drawn("holidays", tmp_path)
    draw(tmp_path, "jpg/party.jpg")
    listing = holidays.read(Place(which, tmp_path))
    assert [entry.label for entry in listing.entries] == ["1000"] * 3 + ["1001"] * 2
    query = "jpg/100000.jpg"
    assert listing.judged[""][0] == JudgedQuery(
        key=query, positives=("jpg/100001.jpg", "jpg/100002.jpg"), junk=(query,)
    )
    assert listing.judged[""][1].positives == ("jpg/100101.jpg",)
