"""Counts by kind, each with the first name."""

from apdist.data.preparing.tally import Tally


def test_a_kind_keeps_its_first_name_and_adds_up() -> None:
    tally = Tally()
    tally.add("hidden", "a")
    tally.add("hidden", "b", 3)
    assert tally.kinds == {"hidden": (4, "a")}
    assert tally.number("hidden") == 4
    assert tally.number("damaged") == 0


def test_what_another_has_counted_is_named_by_its_place_unless_there_was_one_before() -> None:
    tally, other = Tally({"hidden": (1, "a")}), Tally({"hidden": (2, "b"), "link": (5, "c")})
    tally.update(other, "shard: ")
    assert tally.kinds == {"hidden": (3, "a"), "link": (5, "shard: c")}
