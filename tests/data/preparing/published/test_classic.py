from pathlib import Path

import pytest

from apdist.data.preparing.published import classic
from apdist.data.preparing.published.place import Place
from tests.published import BOX, drawn


@pytest.mark.parametrize(
    ("name", "start"),
    [("oxford5k", "oxbuild_images/all_souls"), ("paris6k", "paris/defense/paris_defense")],
)
def test_good_and_ok_are_positives_and_the_query_is_of_the_database(
    tmp_path: Path, name: str, start: str
) -> None:
    listing = classic.read(Place(drawn(name, tmp_path), tmp_path))
    images = [f"{start}_00000{number}.jpg" for number in range(5)]
    assert [entry.path for entry in listing.entries] == images
    assert {entry.split for entry in listing.entries} == {"database"}
    first, second = listing.judged[""]
    assert (first.key, first.box) == (images[1], BOX)
    # The first of Paris judges a damaged picture, too.
    assert first.positives == (images[1], images[0], images[3])
    assert first.junk == (images[4],)
    assert second.key == images[2]
