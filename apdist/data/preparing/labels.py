"""Class labels as people write them, texts or numbers: to the integers of the catalogue."""

import re
from collections.abc import Iterable
from decimal import Decimal

from apdist.data.preparing.tally import Tally

ALIKE = "class named as another one but for capitals, or for how a number is written: kept apart"
_NUMBER = re.compile(r"[+-]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})(e[+-]?\d{1,3})?", re.ASCII)


def number_labels(texts: Iterable[str]) -> dict[str, int]:
    """An integer for each label: itself where all are whole numbers, else by alphabet from 0."""
    different = sorted(set(texts))
    if all(_is_plain_integer(text) for text in different):
        return {text: int(text) for text in different}
    return {text: number for number, text in enumerate(different)}


def alike(names: Iterable[str]) -> Tally:
    """Names of classes that were perhaps meant for one that comes before them by alphabet."""
    first: dict[str | Decimal, str] = {}
    tally = Tally()
    for name in sorted(set(names)):
        before = first.setdefault(_folded(name), name)
        if before != name:
            tally.add(ALIKE, f"{before} = {name}")
    return tally


def _folded(name: str) -> str | Decimal:
    """Equal for names that differ in capitals, and for numbers of one value: 1, 01, 1.0, 1e0."""
    folded = name.casefold()
    return Decimal(folded) if _NUMBER.fullmatch(folded) else folded


def _is_plain_integer(text: str) -> bool:
    # "007" stays a name: as a number it would be one with "7".
    # Python refuses to read numbers of thousands of digits.
    is_short = text.isascii() and text.isdigit() and len(text) < 20
    return is_short and str(int(text)) == text and int(text) < 1 << 63
