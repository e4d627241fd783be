"""Filters: which images of an index a search may give, by what their entries say.

    label_name=cat     label!=3     width>=640     split in train,val     key in ["a,b","c"]

Shapes: n images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from apdist.config import suggestion
from apdist.config.json_text import read_json

_CONDITION = re.compile(
    r"\s*(?P<column>\S.*?)\s*(?:(?P<sign>!=|<=|>=|==|=|<|>)\s*|\s(?P<word>in)\s+)(?P<value>.*)",
    re.DOTALL,
)
_FORMS = "COLUMN=VALUE, !=, <, <=, >, >=, or COLUMN in A,B"
_MOST_DIGITS = 37
"""Of whole numbers and decimals, as Arrow holds them."""
_COMPARE = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


@dataclass(frozen=True)
class Condition:
    """One comparison of a column."""

    column: str
    sign: str
    """One of `_COMPARE`, or ``in``."""
    values: tuple[str, ...]
    """As they were typed; one, but for ``in``."""

    def __str__(self) -> str:
        if self.sign == "in":
            return f"{self.column} in {json.dumps(list(self.values), ensure_ascii=False)}"
        return f"{self.column}{self.sign}{self.values[0]}"


@dataclass(frozen=True)
class Filter:
    """What entries have to be, each of its conditions; without one all are."""

    conditions: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))

    def rows(self, entries: pa.Table) -> Tensor:
        """(n,) bool: which ``entries`` it lets through.

            for each entry: every condition holds of its column
                (an entry that has no value there is unlike every value: only != holds of it)

        Raises:
            ValueError: a column is not there, or is not of the kind that the value is.
        """
        found = np.ones(entries.num_rows, dtype=bool)
        for condition in self.conditions:
            found &= _holds(condition, _column(condition.column, entries))
        return torch.from_numpy(found)


def parse_filter(texts: Sequence[str]) -> Filter:
    """The filter of conditions as people type them, of one or several; all of them have to hold.

    Raises:
        ValueError: a text is no condition.
    """
    is_several = hasattr(texts, "__iter__") and not isinstance(texts, str)
    return Filter(tuple(map(_condition, texts if is_several else [texts])))


def _condition(text: Any) -> Condition:
    found = _CONDITION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{text!r} is no condition; expected {_FORMS}")
    sign = (found["sign"] or "in").replace("==", "=")
    value = found["value"].strip()
    return Condition(found["column"], sign, _listed(value) if sign == "in" else (value,))


def _listed(text: str) -> tuple[str, ...]:
    """Values between commas, or a list in JSON for those that hold a comma."""
    if text.startswith("["):
        try:
            values = read_json(text)
            if isinstance(values, list):
                return tuple(v if isinstance(v, str) else json.dumps(v) for v in values)
        except ValueError as error:
            if re.match(r'\[\s*"', text):
                raise ValueError(
                    f"`in` got {text!r}, which is no list in JSON ({error}); expected "
                    '["a,b","c"], or values between commas'
                ) from error
            # else a value that begins with a bracket
    values = tuple(value.strip() for value in text.split(","))
    if values == ("",):
        raise ValueError(f"`in` needs a value or more; expected {_FORMS}")
    return values


def _column(name: str, entries: pa.Table) -> pa.ChunkedArray:
    names = entries.schema.names
    if name not in names:
        raise ValueError(
            f"the index has no column {name!r}{suggestion(name, names)}; it has {', '.join(names)}"
        )
    return entries[name]


def _holds(condition: Condition, column: pa.ChunkedArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(n,) bool: where the condition holds."""
    if pa.types.is_dictionary(column.type):
        # Of each name once: columns of few names have one for thousands of rows.
        whole = column.unify_dictionaries().combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            return np.zeros(0, dtype=bool)
        names = np.append(_holds(condition, pa.chunked_array([whole.dictionary])), False)
        names[-1] = condition.sign == "!="
        codes = pc.fill_null(whole.indices, len(names) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(names[codes], dtype=bool)
    values = [_value(text, condition, column.type) for text in condition.values]
    if condition.sign == "in":
        found = np.zeros(len(column), dtype=bool)
        for value in values:
            found |= _true_where(pc.equal(column, value), if_null=False)
        return found
    compared = _COMPARE[condition.sign](column, values[0])
    return _true_where(compared, if_null=condition.sign == "!=")


def _true_where(compared: pa.ChunkedArray, *, if_null: bool) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.asarray(pc.fill_null(compared, if_null).to_numpy(), dtype=bool)


def _value(text: str, condition: Condition, kind: pa.DataType) -> pa.Scalar:
    """The typed ``text`` as a value that the column is compared with."""
    try:
        if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
            # Decimal, not float: large keys differ in digits that a float does not have.
            number = Decimal(text)
            if not number.is_finite():
                raise ValueError("no number")
            if number and abs(number.adjusted()) > _MOST_DIGITS:
                raise ValueError("too many digits")
            return pa.scalar(Decimal(format(number, "f")))
        if pa.types.is_floating(kind):
            return pa.scalar(float(text))
        return pa.scalar(text).cast(kind)
    except (ValueError, ArithmeticError, NotImplementedError) as error:  # Arrow's are of these, too
        raise ValueError(
            f"the column {condition.column!r} holds {_kind_name(kind)}, got {text!r} in "
            f"{str(condition)!r}"
        ) from error


def _kind_name(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "whole numbers"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numbers"
    if pa.types.is_boolean(kind):
        return "true or false"
    return f"values of the kind {kind}"
