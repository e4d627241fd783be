"""Lines and tables that a person sees."""

import pytest

from apdist_verbs.terminal.console import counted, said_beside_output, say, table, warn


def test_square_brackets_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    say("[bold] a")
    warn("[red] b")
    table("found", ["name", "score"], [["[blue]", "0.5"]])
    shown = capsys.readouterr()
    assert "[bold] a" in shown.out
    assert "[blue]" in shown.out
    assert shown.err == "warning: [red] b\n"


def test_one_and_many_have_their_words() -> None:
    assert [counted(n, "class", "classes") for n in (0, 1, 2)] == [
        *("0 classes", "1 class", "2 classes")
    ]


def test_beside_output_for_a_program_lines_go_to_the_error_stream(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with said_beside_output():
        say("one")
    say("two")
    assert capsys.readouterr() == ("two\n", "one\n")
