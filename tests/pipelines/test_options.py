"""How a command line becomes a dataclass; `test_cli` tests the errors of every verb."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import pytest

from apdist.config import Config
from apdist_verbs.terminal.fields import Argument, options_of, positional, shown_default
from apdist_verbs.terminal.help import texts_of
from apdist_verbs.terminal.options import parse


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


@dataclass(frozen=True, kw_only=True)
class Section:
    """What belongs
    together."""

    share: float = 0.5
    """A share."""
    is_on: bool = True
    """A switch."""
    kind: Literal["fast", "slow"] = "fast"
    """A choice."""


@dataclass(frozen=True, kw_only=True)
class Nested:
    """Sections, and values without a name."""

    first: Annotated[str, positional("FIRST")]
    """One."""
    more: Annotated[tuple[Path, ...], positional("MORE")] = ()
    """Any number."""
    names: tuple[str, ...] = ()
    """Names."""
    a_section: Section = field(default_factory=Section)
    top: Annotated[Section, Argument(name="")] = Section(share=0.25)


def parsed(*argv: str) -> Nested:
    return parse(Nested, list(argv), "nested")


def test_options_are_read_and_the_others_keep_their_default() -> None:
    assert parse(Example, ["--k", "5"], "example") == Example(k=5)
    start = Example(name="a")
    assert parse(Example, ["--k", "5"], "example", default=start) == Example(name="a", k=5)


def test_an_option_of_a_section_is_read_and_the_others_of_it_keep_their_start() -> None:
    start = Nested(first="x", a_section=Section(share=0.75))
    argv = ["y", "--a-section.kind", "slow", "--share=1e-3"]
    assert parse(Nested, argv, "nested", default=start) == Nested(
        first="y", a_section=Section(share=0.75, kind="slow"), top=Section(share=1e-3)
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["x", "--a_section.share", "1"], Nested(first="x", a_section=Section(share=1.0))),
        (["x", "--a-section.no-is-on"], Nested(first="x", a_section=Section(is_on=False))),
        (["--no-is-on", "--is-on", "x"], Nested(first="x", top=Section(share=0.25))),
        (["x", "--share", "2", "--share", "3"], Nested(first="x", top=Section(share=3.0))),
        (["x", "--names", "a", "-1", "--share", "1"], Nested(first="x", names=("a", "-1"))),
        (["x", "a b", "c"], Nested(first="x", more=(Path("a b"), Path("c")))),
        (["a", "--share", "0.25", "b"], Nested(first="a", more=(Path("b"),))),
        (["--", "--share", "-x"], Nested(first="--share", more=(Path("-x"),))),
        (["x", "--names=--a=b"], Nested(first="x", names=("--a=b",))),
    ],
)
def test_a_command_line_may_be_spelt_in_several_ways(argv: list[str], expected: Nested) -> None:
    found = parsed(*argv)
    if "--names" in argv:
        expected = replace(expected, top=Section(share=1.0))
    assert found == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "`nested` needs FIRST (`nested --help` lists all options)"),
        (["x", "--FIRST", "y"], "unknown option '--FIRST'"),
        (["x", "--no-share"], "unknown option '--no-share'; did you mean '--share'?"),
        (["x", "--hepl"], "did you mean '--help'?"),
        (["x", "--is-on=false"], "--is-on takes no value"),
        (["x", "--share"], "--share needs a value"),
        (["x", "--share", "--is-on"], "--share needs a value"),
        (["x", "--names"], "--names needs a value"),
        (["x", "--share", "--is-on", "--no"], "--share needs a value"),
        (["x", "--a-section.kind", "SLOW"], "must be one of 'fast', 'slow', got 'SLOW'"),
        (["x", "--share", "half"], "--share must be a number, got 'half'"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_refused(argv: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        parsed(*argv)
    assert str(error.value).endswith("(`nested --help` lists all options)")


def test_a_value_without_a_name_and_without_a_place_is_refused() -> None:
    with pytest.raises(ValueError, match="unexpected argument: a b"):
        parse(Example, ["a", "--k", "2", "b"], "example")


def test_an_error_of_a_class_is_told_in_its_own_words() -> None:
    with pytest.raises(ValueError, match=f"^{re.escape('--k must be at least 1')}$"):
        parse(Example, ["--k", "0"], "example")


def test_a_negative_number_is_no_unknown_option() -> None:
    with pytest.raises(ValueError, match="--k must be at least 1"):
        parse(Example, ["--k", "-3"], "example")


def test_a_number_or_a_word_is_read_and_anything_else_refused() -> None:
    assert parse(Example, ["--room", "7"], "example").room == 7
    assert parse(Example, ["--room", "auto"], "example").room == "auto"
    with pytest.raises(ValueError, match="--room must be an integer or 'auto', got 'lots'"):
        parse(Example, ["--room", "lots"], "example")


def shown(kind: type, capsys: pytest.CaptureFixture[str], argv: list[str] | None = None) -> str:
    with pytest.raises(SystemExit) as end:
        parse(kind, argv or ["--help"], "example")
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["50", "300"])
def test_help_shows_every_option_with_its_text_and_default(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    words = shown(Example, capsys, ["--k", "-h"])
    assert max(map(len, words.splitlines())) <= min(int(columns), 100)
    words = " ".join(words.replace("│", " ").split())
    assert "usage: example [OPTIONS] An example." in words
    assert "--name STR A name. (default: the newest)" in words
    assert "--k INT A number. (default: 3)" in words
    assert "--room INT|{auto} A number or a word. (default: auto)" in words


def test_help_has_a_box_for_each_section(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    words = " ".join(re.sub("[│╭╮╰╯─]", " ", shown(Nested, capsys)).split())
    assert "usage: example [OPTIONS] FIRST MORE ... " in words
    assert "arguments FIRST One. (required) MORE Any number. (default: none) options" in words
    assert "--names STR ... Names. (default: none)" in words
    assert "a-section options What belongs together. --a-section.share FLOAT" in words
    assert "--a-section.is-on, --a-section.no-is-on A switch. (default: True)" in words
    assert "--a-section.kind {fast,slow} A choice. (default: fast) top options" in words
    assert "--share FLOAT A share. (default: 0.25)" in words


def test_every_option_of_a_run_has_a_text() -> None:
    options = list(options_of(Config, None))
    assert len(options) > 60
    assert not [o.name for o in options if not texts_of(o.owner).get(o.path[-1])]


def test_help_of_a_class_has_the_texts_of_those_that_it_extends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Extended(Example):
        """More."""

        name: str = "x"
        """Another name."""

    words = " ".join(shown(Extended, capsys).replace("│", " ").split())
    assert "--name STR Another name. (default: x) --k INT A number. (default: 3)" in words
