"""JSON that others wrote."""

import pytest

from apdist.config.json_text import read_json


def test_what_is_right_is_read() -> None:
    assert read_json(b'{"a": [1, "\xc3\xa4"]}') == {"a": [1, "ä"]}


@pytest.mark.parametrize("wrong", ["", "{", b"\xff", "[" * 100_000, '{"a":' * 100_000])
def test_whatever_is_wrong_is_a_value_error(wrong: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        read_json(wrong)
