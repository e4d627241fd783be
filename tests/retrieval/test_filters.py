"""Filters of entries against Python's own comparisons, and conditions that are none."""

from __future__ import annotations

import datetime
import operator
from typing import Any

import pyarrow as pa
import pytest

from apdist.retrieval.filters import Condition, parse_filter

SIGNS = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NAMES = ["cat", "dog", None, "ça va, <b>", "dog", "[x"]
ENTRIES = pa.table(
    {
        "label": pa.array([3, -1, 7, None, 2**62 + 1, 0]),
        "label_name": pa.array(NAMES),
        "class": pa.chunked_array(
            [pa.array(NAMES[:3]).dictionary_encode(), pa.array(NAMES[3:]).dictionary_encode()]
        ),
        "price, €": pa.array([1.5, float("nan"), None, 3.0, -0.0, 1e9]),
        "is seen": pa.array([True, False, None, True, True, False]),
        "day": pa.array([datetime.date(2024, 1, day) for day in range(1, 7)]),
    }
)


def slow_rows(column: str, sign: str, value: Any) -> list[bool]:
    """The definition; a missing value is unlike every other."""
    return [
        SIGNS[sign](found, value) if found is not None else sign == "!="
        for found in ENTRIES[column].to_pylist()
    ]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    ("column", "text", "value"),
    [
        ("label", "3", 3),
        ("label", "2.5", 2.5),
        ("label", str(2**62 + 1), 2**62 + 1),
        ("label", str(10**30), 10**30),
        ("label_name", "dog", "dog"),
        ("class", "dog", "dog"),
        ("class", "nothing", "nothing"),
        ("price, €", "1.5", 1.5),
        ("price, €", "0", 0),
        ("is seen", "true", True),
        ("day", "2024-01-03", datetime.date(2024, 1, 3)),
    ],
)
def test_a_condition_holds_where_python_says_so(
    sign: str, column: str, text: str, value: Any
) -> None:
    for spaces in ("", " "):
        found = parse_filter([f"{column}{spaces}{sign}{spaces}{text}"]).rows(ENTRIES)
        assert found.tolist() == slow_rows(column, sign, value)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("label in 3,7", [0, 2]),
        ("label in -1", [1]),
        ("label_name in dog, cat", [0, 1, 4]),
        ('class in ["ça va, <b>", "cat"]', [0, 3]),
        ("class in [x,cat", [0, 5]),
        ("label in [3, 7.0]", [0, 2]),
        ("price, € in 3,1.5", [0, 3]),
        ("price, €==3", [3]),
        ("label_name=", []),
    ],
)
def test_lists_spaces_and_odd_values(text: str, rows: list[int]) -> None:
    assert parse_filter([text]).rows(ENTRIES).nonzero()[:, 0].tolist() == rows


def test_all_conditions_have_to_hold_and_none_lets_everything_through() -> None:
    assert parse_filter(["label>=0", "label_name=dog"]).rows(ENTRIES).tolist() == [
        *([False] * 4),
        True,
        False,
    ]
    assert parse_filter([]).rows(ENTRIES).all()
    assert not parse_filter([])
    assert len(parse_filter(["class=cat"]).rows(ENTRIES.slice(0, 0))) == 0


def test_a_filter_is_shown_as_it_can_be_typed_again() -> None:
    texts = ["a=b=c", "x != 3", 'k in ["p,q"]']
    found = parse_filter(texts)
    assert found.conditions[0] == Condition("a", "=", ("b=c",))
    assert parse_filter([str(c) for c in found.conditions]) == found
    assert str(found) == 'a=b=c and x!=3 and k in ["p,q"]'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label", r"'label' is no condition; expected COLUMN=VALUE, !="),
        ("=3", "'=3' is no condition"),
        ("", "'' is no condition"),
        ("label in ", "`in` needs a value or more"),
        ('class in ["cat","dog"', r"""`in` got '\["cat","dog"', which is no list in JSON"""),
        ("lable=3", "no column 'lable'; did you mean 'label'\\?; it has label, label_name"),
        ("label=cat", "the column 'label' holds whole numbers, got 'cat' in 'label=cat'"),
        ("label in 1,b", "holds whole numbers, got 'b'"),
        ("label>inf", "holds whole numbers, got 'inf'"),
        ("label=NaN", "holds whole numbers, got 'NaN'"),
        ("price, €>x", "holds numbers, got 'x'"),
        ("is seen=perhaps", "holds true or false, got 'perhaps'"),
        ("day<soon", "holds values of the kind date32.*got 'soon'"),
    ],
)
def test_what_is_no_condition_of_these_columns_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_filter([text]).rows(ENTRIES)
