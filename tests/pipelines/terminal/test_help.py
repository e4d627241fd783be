"""The help of a verb: every option with its text and default, in lines that fit."""

import re
from dataclasses import dataclass

import pytest

from apdist.config import Config
from apdist_verbs.start.start import COMMON, Options
from apdist_verbs.terminal.fields import options_of
from apdist_verbs.terminal.help import texts_of
from apdist_verbs.terminal.options import parse
from tests.pipelines.terminal.examples import Example, Nested


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
    assert "usage: example [OPTIONS] FIRST [MORE ...] " in words
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


def test_help_begins_with_what_people_change_and_says_how_to_see_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = {}
    for word in ("--help", "--help-all"):
        with pytest.raises(SystemExit):
            parse(Nested, [word], "nested", common=["--share"])
        said[word] = capsys.readouterr().out
    assert "--share FLOAT" in said["--help"]
    assert "--help-all" in said["--help"]
    assert "--names" not in said["--help"]
    assert "--names" in said["--help-all"]


def test_the_options_that_people_change_are_there() -> None:
    assert set(COMMON) <= {option.name for option in options_of(Options, None)}
