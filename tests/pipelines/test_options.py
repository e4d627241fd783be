"""How a command line becomes options; `test_cli` tests the errors of every verb."""

import os
import re
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from apdist_verbs.terminal.options import parse, shown_default


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example."""

    name: Annotated[str, shown_default("the newest")] = ""
    """A name."""
    k: int = 3
    """A number."""
    room: int | Literal["auto"] = "auto"
    """A number or a word."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError("--k must be at least 1")


def test_options_are_read_and_the_others_keep_their_default() -> None:
    assert parse(Example, ["--k", "5"], "example") == Example(k=5)
    start = Example(name="a")
    assert parse(Example, ["--k", "5"], "example", default=start) == Example(name="a", k=5)


def test_help_shows_the_words_given_for_a_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(Example, ["--help"], "example")
    assert not end.value.code
    shown = capsys.readouterr().out
    assert "(default: the newest)" in shown
    assert "(default: 3)" in shown


@pytest.mark.parametrize("columns", ["40", None])
def test_an_error_has_one_line_however_wide_the_terminal(
    columns: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    value = "/a path/" + "x" * 150
    with pytest.raises(ValueError, match="--k must be an integer") as error:
        parse(Example, ["--k", value], "example")
    assert value in str(error.value)
    assert capsys.readouterr() == ("", "")
    assert os.environ.get("COLUMNS") == columns


def test_an_error_of_a_class_is_told_in_its_own_words() -> None:
    with pytest.raises(ValueError, match=f"^{re.escape('--k must be at least 1')}$"):
        parse(Example, ["--k", "0"], "example")


def test_a_negative_number_is_no_unknown_option() -> None:
    with pytest.raises(ValueError, match="--k must be at least 1"):
        parse(Example, ["--k", "-3"], "example")


def test_a_number_or_a_word_is_read_and_anything_else_refused() -> None:
    assert parse(Example, ["--room", "7"], "example").room == 7
    assert parse(Example, ["--room", "auto"], "example").room == "auto"
    with pytest.raises(ValueError, match="--room must be an integer or auto, got lots"):
        parse(Example, ["--room", "lots"], "example")
