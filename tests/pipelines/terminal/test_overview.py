"""Two columns within a terminal."""

import pytest

from apdist_verbs.terminal.overview import NARROWEST, two_columns

ROWS = {"folder": "your own pictures, one folder a class", "csv": "a file-list"}


def test_a_second_column_that_is_too_wide_goes_on_below_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "45")
    assert two_columns(ROWS, 9).splitlines() == [
        "  folder   your own pictures, one folder a",
        "           class",
        "  csv      a file-list",
    ]


def test_a_terminal_that_is_narrower_than_the_columns_folds_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", str(NARROWEST))
    narrow = two_columns(ROWS, 9)
    monkeypatch.setenv("COLUMNS", "3")
    assert two_columns(ROWS, 9) == narrow
