"""Labels as whole numbers."""

from apdist.data.preparing.labels import number_labels


def test_whole_numbers_stay_what_they_are_and_texts_are_numbered() -> None:
    assert number_labels(["10", "2"]) == {"10": 10, "2": 2}
    assert number_labels(["b", "a", "b"]) == {"a": 0, "b": 1}
    assert number_labels(["007", "7"]) == {"007": 0, "7": 1}
    assert number_labels(["9" * 5000, "7"]) == {"7": 0, "9" * 5000: 1}
    assert number_labels([str(1 << 63)]) == {str(1 << 63): 0}
