"""Labels as whole numbers, and those that are nearly the same."""

from apdist.data.preparing.labels import ALIKE, alike, number_labels


def test_whole_numbers_stay_what_they_are_and_texts_are_numbered() -> None:
    assert number_labels(["10", "2"]) == {"10": 10, "2": 2}
    assert number_labels(["b", "a", "b"]) == {"a": 0, "b": 1}
    assert number_labels(["007", "7"]) == {"007": 0, "7": 1}
    assert number_labels(["9" * 5000, "7"]) == {"7": 0, "9" * 5000: 1}
    assert number_labels([str(1 << 63)]) == {str(1 << 63): 0}


def test_names_that_differ_in_capitals_or_in_a_numbers_form_are_counted_and_never_joined() -> None:
    names = ["1", "1.0", "01", "+1", "1e0", "Dog", "DOG", "dog", "Stra\u00dfe", "STRASSE"]
    assert alike(names).kinds == {ALIKE: (7, "+1 = 01")}
    assert len(set(number_labels(names).values())) == len(names)
    assert alike(["1", "10", "1.5", "-1", "dog", "dog 1", "1.0.0", "nan", "infinity"]).kinds == {}
    assert alike(["cat", "Cat", "Cat"]).kinds == {ALIKE: (1, "Cat = cat")}
    assert alike(["9" * 5000, "1e999999999", "٣", "3"]).kinds == {}
