"""Checks of single values, and the closest known name."""

from typing import Any, Literal

import numpy as np
import pytest

from apdist.config.values import (
    at_least,
    checked,
    in_range,
    of_python,
    pattern_factors,
    shown,
    suggestion,
)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ("many", int, "x must be of type int, got 'many'"),
        (True, int, "x must be of type int, got True"),
        (1, bool, "x must be of type bool, got 1"),
        ("lamb", Literal["adam", "sgd"], "x must be one of adam, sgd, got 'lamb'"),
        ("all", int | Literal["auto"], "x must be of type int or auto, got 'all'"),
        ("a", tuple[str, ...], r'x must be a list, got .a.; write \["a"\]'),
        ([1], tuple[str, ...], "x must be of type str, got 1"),
        (0.5, int | Literal["auto"], "x must be of type int, got 0.5"),
    ],
)
def test_a_value_of_another_kind_is_refused(value: object, kind: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        checked("x", value, kind)


def test_an_int_is_accepted_where_a_float_is_meant() -> None:
    assert isinstance(checked("x", 1, float), float)


def test_a_whole_number_beyond_all_floats_is_refused() -> None:
    for kind in (float, int, tuple[float, ...]):
        with pytest.raises(ValueError, match="a.b must fit 64 bits"):
            checked("a.b", [10**400] if kind not in (float, int) else 10**400, kind)


@pytest.mark.parametrize(("value", "kind"), [(7, int | Literal["auto"]), ("auto", Literal["auto"])])
def test_a_number_or_a_word_stays_as_it_is(value: object, kind: Any) -> None:
    assert checked("x", value, kind) == value


def test_limits_belong_to_what_is_allowed_and_nan_does_not() -> None:
    at_least("x", 2, 2)
    in_range("x", 0.0, 0, 1)
    in_range("x", 1.0, 0, 1)
    with pytest.raises(ValueError, match="x must be at least 2, got 1"):
        at_least("x", 1, 2)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"x must lie in \[0, 1\], got"):
            in_range("x", value, 0, 1)


def test_the_closest_name_is_suggested_and_none_where_nothing_is_close() -> None:
    assert suggestion("tripel", ["triplet", "ap"]) == "; did you mean 'triplet'?"
    assert suggestion("xyz", ["triplet", "ap"]) == ""


def test_a_value_is_shown_as_it_is_written_on_the_command_line() -> None:
    assert [shown(value) for value in (("a", "b"), (), [1, 2], 0.5)] == [
        "a b",
        "none",
        "1 2",
        "0.5",
    ]


def test_a_factor_stands_after_the_last_equals_sign_of_a_pattern() -> None:
    assert pattern_factors("x", ("a.*=0.5", "b=c=2")) == [("a.*", 0.5), ("b=c", 2.0)]
    for text in ("a.*", "=1", "a=", "a=nan", "a=-1", "a=inf"):
        with pytest.raises(ValueError, match="x must be patterns of names with positive factors"):
            pattern_factors("x", (text,))


def test_numbers_of_numpy_become_those_of_python() -> None:
    found = [of_python(value) for value in (np.int64(3), np.float32(0.5), np.bool_(True), "a")]
    assert [(type(value), value) for value in found] == [
        *((int, 3), (float, 0.5), (bool, True), (str, "a"))
    ]
    several = np.arange(2)
    assert of_python(several) is several
