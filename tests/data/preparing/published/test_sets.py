from apdist.data.preparing.published.reading import LAYOUTS
from apdist.data.preparing.published.sets import DAMAGED_IN_PARIS, SETS
from tests.places import ROOT


def test_the_manual_has_the_address_the_counts_and_the_checksums_of_every_set() -> None:
    text = (ROOT / "docs" / "datasets.md").read_text()
    for which in SETS.values():
        assert f"apdist prepare {which.name} " in text
        assert which.address in text
        numbers = [count.images for count in which.counts.values()]
        numbers += [count.classes for count in which.counts.values() if count.classes]
        for number in numbers:
            assert f"{number:,}" in text, (which.name, number)
        for file, checksum in which.checksums.items():
            assert f"`{file}` | {checksum}" in text


def test_every_layout_has_a_set_and_a_set_with_a_ground_truth_a_protocol() -> None:
    assert {which.layout for which in SETS.values()} == set(LAYOUTS)
    for which in SETS.values():
        assert bool(which.num_queries) == (which.protocol != "own"), which.name
        assert which.has_boxes == (which.protocol in ("revisited", "classic"))


def test_splits_of_inaturalist_are_all_its_images_and_paris_has_20_damaged_ones() -> None:
    assert sum(count.images for count in SETS["inaturalist"].counts.values()) == 437513 + 24426
    assert len(DAMAGED_IN_PARIS) == 20
    assert SETS["rparis6k"].counts["database"].images + 70 + 20 == 6412
    assert SETS["paris6k"].counts["database"].images + 20 == 6412
    assert (
        SETS["roxford5k"].counts["database"].images + 70
        == SETS["oxford5k"].counts["database"].images
    )
