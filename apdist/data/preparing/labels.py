"""Class labels as people write them, texts or whole numbers, to the integers of the catalogue."""

from collections.abc import Iterable


def number_labels(texts: Iterable[str]) -> dict[str, int]:
    """An integer for each label: itself where all are whole numbers, else by alphabet from 0."""
    different = sorted(set(texts))
    if all(_is_plain_integer(text) for text in different):
        return {text: int(text) for text in different}
    return {text: number for number, text in enumerate(different)}


def _is_plain_integer(text: str) -> bool:
    # "007" stays a name: as a number it would be one with "7".
    # Python refuses to read numbers of thousands of digits.
    is_short = text.isascii() and text.isdigit() and len(text) < 20
    return is_short and str(int(text)) == text and int(text) < 1 << 63
