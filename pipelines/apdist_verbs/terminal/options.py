"""Command lines to dataclasses: help on request, every error in one line that says the remedy."""

import os
import re
import shlex
from collections import deque
from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any, TypeVar

from apdist.config import suggestion
from apdist_verbs.terminal.ending import HelpShown
from apdist_verbs.terminal.fields import Option, build, options_of

T = TypeVar("T")
Given = dict[tuple[str, ...], Any]
"""Values by the path of their option."""

ALL = "--help-all"


def parse(
    kind: type[T],
    argv: list[str],
    prog: str,
    *,
    default: T | None = None,
    description: str | None = None,
    common: Sequence[str] = (),
) -> T:
    """An instance of the dataclass ``kind`` from ``argv``; help is printed and ends the process.

    Args:
        kind: the options.
        argv: what stands after ``prog``.
        prog: the command as the person types it.
        default: where the options start from; None: from the defaults of ``kind``.
        description: first line of the help; None: the docstring of ``kind``.
        common: options that `--help` shows, `--help-all` shows all; empty: both show all.

    Raises:
        ValueError: an option is unknown, missing or has a bad value.
    """
    options = list(options_of(kind, default))
    if {"-h", "--help", ALL} & set(argv):
        from apdist_verbs.terminal.help import show_help

        shown = () if ALL in argv else common
        show_help(prog, description or kind.__doc__ or "", options, shown)
        raise HelpShown(0)
    help_flag = ALL if common else "--help"
    given = _explained(argv, options, f"{prog} {help_flag}")
    missing = [o for o in options if o.default is MISSING and o.path not in given]
    if missing:
        missing.sort(key=lambda option: not option.is_positional)
        needed = " and ".join(f"{option.name} {option.values}".strip() for option in missing)
        raise ValueError(f"`{prog}` needs {needed} (`{prog} {help_flag}` lists all options)")
    instance: T = build(kind, default, given)
    return instance


def check(kind: type, argv: list[str], prog: str) -> None:
    """Refuse what can be told to be wrong of ``argv`` without knowing where the options start from.

    Raises:
        ValueError: an option is unknown, or its value is none of its kind.
    """
    _explained(argv, list(options_of(kind, None)), f"{prog} {ALL}")


def _explained(argv: list[str], options: list[Option], help_command: str) -> Given:
    try:
        return _read(argv, options)
    except ValueError as error:
        raise ValueError(f"{error} (`{help_command}` lists all options)") from None


def _read(argv: list[str], options: list[Option]) -> Given:
    """The values in ``argv`` by the path of their option; the last one of several counts."""
    named = [option for option in options if not option.is_positional]
    known = {spelling: option for option in named for spelling in option.spellings}
    given: Given = {}
    left = deque(argv)
    unnamed: list[str] = []
    while left:
        word = left.popleft()
        if word == "--":
            unnamed += left
            break
        if not _is_name(word):
            unnamed.append(word)
            continue
        typed, equals, value = word.partition("=")
        name = typed.replace("_", "-")
        if name not in known:
            raise ValueError(f"unknown option {typed!r}{_meant(name, options, list(known))}")
        option = known[name]
        if option.kind is bool:
            if equals:
                raise ValueError(f"{name} takes no value")
            given[option.path] = name == option.name
            continue
        texts = [value] if equals else _values(left, option)
        if not texts:
            raise ValueError(f"{name} needs a value")
        before = given.get(option.path, ()) if option.is_repeated else None
        value = option.read(texts)
        given[option.path] = value if before is None else (*before, *value)
    return given | _positional(unnamed, options)


def _meant(name: str, options: list[Option], known: list[str]) -> str:
    """What a person may have meant by the unknown ``name``."""
    bare = name.lstrip("-")
    if place := next((o.name for o in options if o.is_positional and o.name.lower() == bare), ""):
        return f"; {place} is given without a name before it"
    # As other programs abbreviate it: --lr for --training.learning-rate.
    initials = "".join(rf"{re.escape(letter)}\w*-" for letter in bare)[:-1]
    long = [k for k in known if len(bare) > 1 and re.fullmatch(initials, k.rpartition(".")[2])]
    named = " or ".join(map(repr, long))
    return f"; did you mean {named}?" if long else suggestion(name, [*known, "--help"])


def _is_name(word: str) -> bool:
    """Whether it names an option; -3 and - are values."""
    return re.match(r"--?[A-Za-z]", word) is not None


def _values(left: deque[str], option: Option) -> list[str]:
    """Take the values of ``option`` from what is left of the command line."""
    texts: list[str] = []
    while left and not _is_name(left[0]) and (option.takes_many or not texts):
        texts.append(left.popleft())
    return texts


def _positional(texts: list[str], options: list[Option]) -> Given:
    given: Given = {}
    for option in options:
        if option.is_positional and texts:
            size = len(texts) if option.takes_many else 1
            if "" in texts[:size]:
                raise ValueError(f"{option.name} is empty; was a variable meant that is not set?")
            given[option.path], texts = option.read(texts[:size]), texts[size:]
    if texts:
        raise ValueError(f"unexpected argument: {shlex.join(texts)}{_run_meant(texts[0], options)}")
    return given


def _run_meant(text: str, options: list[Option]) -> str:
    """The option that a run's folder is given by, where ``text`` is one."""
    from apdist.training.run_folder.runs import RUN_NAME

    is_taken = any(option.name == "--run" for option in options)
    if not is_taken or not os.path.isfile(os.path.join(text, RUN_NAME)):
        return ""
    return f"; did you mean --run {shlex.quote(text)}?"
