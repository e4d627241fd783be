"""Command lines to options: help as tyro draws it, every error in one line that says the remedy."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import tyro

from apdist.config import suggestion

T = TypeVar("T")

WIDE = "4000"
"""Columns in which no message of tyro is wrapped."""
PLAINER = (
    (r"Error parsing [A-Za-z]\w*: (.+)", r"\1"),  # our own classes name the option themselves
    (r"Error parsing (\S+): invalid literal for int\(\).*: (.+)", r"\1 must be an integer, got \2"),
    (r"Error parsing (\S+): could not convert .* float: (.+)", r"\1 must be a number, got \2"),
    (r"Error parsing (\S+): no type matching INT\|\{(\w+)\} could be .* \['(.*)'\]\.?",
     r"\1 must be an integer or \2, got \3"),
    (r"Missing value for argument '(.+)'\..*", r"\1 needs a value"),
    (r"invalid choice (.+) for argument '(.+)'\. Expected one of \((.+?),?\)\.",
     r"\2 must be one of \3, got \1"),
    (r"Unrecognized options: (.+)", r"unexpected argument: \1"),
)  # fmt: skip
"""What tyro says, and how it is said here; anything else is passed on as it is."""


def shown_default(text: str) -> Any:
    """For `Annotated`: the default that the help names, where the value itself would say little."""
    return tyro.conf.arg(help_behavior_hint=f"(default: {text})")


def parse(
    kind: type[T],
    argv: list[str],
    prog: str,
    *,
    default: T | None = None,
    description: str | None = None,
) -> T:
    """An instance of the dataclass ``kind`` from ``argv``; help is printed and ends the process.

    Args:
        kind: the options.
        argv: what stands after ``prog``.
        prog: the command as the person types it.
        default: where the options start from; None: from the defaults of ``kind``.
        description: first line of the help; None: the docstring of ``kind``.

    Raises:
        ValueError: an option is unknown, missing or has a bad value.
    """
    # tyro tells a missing default from a default of None.
    given: dict[str, Any] = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with _wide(not {"-h", "--help"} & set(argv)), contextlib.redirect_stderr(said):
            options: T = tyro.cli(kind, args=argv, prog=prog, description=description, **given)
    except SystemExit as end:
        if not end.code:
            raise
        known = _names(kind, given)
        raise ValueError(_explanation(argv, said.getvalue(), known, prog)) from None
    sys.stderr.write(said.getvalue())
    return options


def _explanation(argv: list[str], said: str, known: list[str], prog: str) -> str:
    """One line about what is wrong in ``argv``, of which tyro ``said`` something in a box."""
    more = f" (`{prog} --help` lists all options)"
    names = [token.split("=")[0] for token in argv if re.match(r"--?[A-Za-z]", token)]
    for name in names:
        if name.replace("_", "-") not in known:
            return f"unknown option {name!r}{suggestion(name.replace('_', '-'), known)}{more}"
    lines = _first_paragraph(said)
    if lines and lines[0].strip().startswith("Missing from"):
        missing = [line.strip() for line in lines if re.match(r" {4}\S", line)]
        return f"`{prog}` needs {' and '.join(missing)}{more}"
    text = " ".join(" ".join(lines).split()) or "the options cannot be read"
    for pattern, plainer in PLAINER:
        if match := re.fullmatch(pattern, text):
            own = pattern == PLAINER[0][0]
            return match.expand(plainer) + ("" if own else more)
    return text + more


def _first_paragraph(box: str) -> list[str]:
    """The lines between the title of tyro's box and its first rule, indented as they are."""
    lines: list[str] = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()[1:]:
        # Where the output has no such characters tyro draws dashes, and blanks for the sides.
        content = line[2:].rstrip(" │")
        is_rule = set(content) <= set("─-╯")
        if is_rule and lines:
            break
        if not is_rule:
            lines.append(content)
    return lines


def _names(kind: type[T], given: dict[str, Any]) -> list[str]:
    """The names of all options, from the help."""
    drawn = io.StringIO()
    with contextlib.suppress(SystemExit), _wide(True), contextlib.redirect_stdout(drawn):
        tyro.cli(kind, args=["--help"], **given)
    return sorted({"-h", *re.findall(r"(?<![\w.-])--[a-z](?:[\w.-]*\w)?", drawn.getvalue())})


@contextlib.contextmanager
def _wide(wanted: bool) -> Iterator[None]:
    """Where ``wanted``, a terminal so wide that tyro wraps nothing: paths stay in one piece."""
    before = os.environ.get("COLUMNS")
    if wanted:
        os.environ["COLUMNS"] = WIDE
    try:
        yield
    finally:
        if before is not None:
            os.environ["COLUMNS"] = before
        elif wanted:
            del os.environ["COLUMNS"]
