import datetime
import json
from decimal import Decimal

from apdist.serving.answers import plain


def test_values_of_every_kind_are_json() -> None:
    day = datetime.date(2026, 1, 2)
    values = {
        "a": float("nan"), "b": [1, None, float("inf")], "c": day, "d": Decimal("1.5"),
        "e": b"\x01", "f": {"x": True}, "g": "ä",
    }  # fmt: skip
    assert json.loads(json.dumps(plain(values), allow_nan=False)) == {
        "a": None, "b": [1, None, None], "c": "2026-01-02", "d": "1.5", "e": "01",
        "f": {"x": True}, "g": "ä",
    }  # fmt: skip
