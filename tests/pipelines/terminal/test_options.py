"""How a command line becomes a dataclass; `test_cli` tests the errors of every verb."""

import re
from pathlib import Path

import pytest

from apdist_verbs.terminal.options import parse
from tests.pipelines.terminal.examples import Example, Nested, Section


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
        (
            ["x", "--names", "a", "-1", "--share", "1"],
            Nested(first="x", names=("a", "-1"), top=Section(share=1.0)),
        ),
        (["x", "a b", "c"], Nested(first="x", more=(Path("a b"), Path("c")))),
        (["a", "--share", "0.25", "b"], Nested(first="a", more=(Path("b"),))),
        (["--", "--share", "-x"], Nested(first="--share", more=(Path("-x"),))),
        (["x", "--names=--a=b"], Nested(first="x", names=("--a=b",))),
    ],
)
def test_a_command_line_may_be_spelt_in_several_ways(argv: list[str], expected: Nested) -> None:
    assert parsed(*argv) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "`nested` needs FIRST (`nested --help` lists all options)"),
        ([""], "FIRST is empty; was a variable meant that is not set?"),
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


def test_a_short_name_is_as_good_as_the_long_one() -> None:
    from apdist_verbs.search import Options

    assert parse(Options, ["-k", "3", "a.jpg"], "search").k == 3
    assert parse(Options, ["a.jpg", "--k", "3"], "search").k == 3


def test_a_number_over_64_bits_is_refused_with_its_option() -> None:
    with pytest.raises(ValueError, match=r"--k must fit 64 bits"):
        parse(Example, ["--k", str(1 << 63)], "example")


def test_an_option_that_is_repeated_takes_one_value_each_time() -> None:
    from apdist_verbs.search import Options

    argv = ["--where", "a=1", "x.jpg", "--where=b=2", "y.jpg", "--key", "-3"]
    options = parse(Options, argv, "search")
    assert options.where == ("a=1", "b=2")
    assert options.query == ("x.jpg", "y.jpg")
    assert options.key == ("-3",)
