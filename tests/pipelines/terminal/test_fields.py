"""The options that a dataclass has, and an instance with some of them given."""

from dataclasses import MISSING

import pytest

from apdist_verbs.terminal.fields import build, options_of
from tests.pipelines.terminal.examples import Nested, Section


def test_a_field_is_an_option_and_a_field_of_a_section_has_its_name_before_it() -> None:
    options = {option.name: option for option in options_of(Nested, None)}
    assert list(options) == [
        *("FIRST", "MORE", "--names"),
        *("--a-section.share", "--a-section.is-on", "--a-section.kind"),
        *("--share", "--is-on", "--kind"),
    ]
    assert options["FIRST"].default is MISSING
    assert options["--a-section.share"].path == ("a_section", "share")
    assert options["--a-section.is-on"].spellings == ("--a-section.is-on", "--a-section.no-is-on")
    assert (options["--share"].default, options["--a-section.share"].default) == (0.25, 0.5)


def test_defaults_are_those_of_the_instance_to_start_from() -> None:
    start = Nested(first="x", a_section=Section(kind="slow"))
    options = {option.name: option for option in options_of(Nested, start)}
    assert options["FIRST"].default == "x"
    assert options["--a-section.kind"].default == "slow"


def test_what_is_given_is_changed_and_all_else_stays() -> None:
    start = Nested(first="x", a_section=Section(kind="slow"))
    given = {("a_section", "share"): 0.75, ("names",): ("a",)}
    section = Section(share=0.75, kind="slow")
    assert build(Nested, start, given) == Nested(first="x", names=("a",), a_section=section)
    assert build(Nested, None, {("first",): "y"}) == Nested(first="y")


@pytest.mark.parametrize(
    ("name", "texts", "expected"),
    [
        ("--share", ["1e-3"], 0.001),
        ("--kind", ["slow"], "slow"),
        ("--names", ["a", "b"], ("a", "b")),
        ("--names", [""], ()),
    ],
)
def test_a_text_becomes_a_value_of_the_field(name: str, texts: list[str], expected: object) -> None:
    options = {option.name: option for option in options_of(Nested, None)}
    assert options[name].read(texts) == expected
