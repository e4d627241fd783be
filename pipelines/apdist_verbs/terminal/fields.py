"""The options of a dataclass: a field is an option, a field of dataclass type a section of them.

A field becomes
    steps: int = 240                              --steps INT
    compile: bool = False                         --compile, --no-compile
    kind: Literal["auto", "exact"] = "auto"       --kind {auto,exact}
    freeze: tuple[str, ...] = ()                  --freeze STR ..., or --freeze= for none
    query: Annotated[Path, positional("QUERY")]   QUERY, required
    where: Annotated[tuple[str, ...], repeated()] = ()  --where STR, as often as wanted
    training: TrainingConfig                      --training.steps INT and the others of it
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from apdist.addresses import shown
from apdist.config.values import fits_64_bits

NUMBERS = {int: "an integer", float: "a number"}


@dataclass(frozen=True, kw_only=True)
class Argument:
    """For `Annotated`: what neither the type of a field nor its name says."""

    name: str | None = None
    """Of the option, or before those of a section; None: the field's own."""
    is_positional: bool = False
    """The name is a place holder: the value stands by itself."""
    hint: str = ""
    """What the help says instead of the default."""
    short: str = ""
    """A second name, as ``-k``."""
    is_repeated: bool = False
    """One value each time, and all of them count: no value takes what follows it for another."""
    is_never_empty: bool = False
    """A text that is a name: an empty one is a variable that is not set."""


def positional(name: str) -> Argument:
    """A value without a name; the help calls it ``name``."""
    return Argument(name=name, is_positional=True)


def shown_default(text: str) -> Argument:
    """The default that the help names, where the value itself would say little."""
    return Argument(hint=f"default: {text}")


def repeated(hint: str = "") -> Argument:
    """An option of a tuple that is given once for each value."""
    return Argument(is_repeated=True, hint=f"default: {hint}" if hint else "")


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option."""

    path: tuple[str, ...]
    """Fields that lead to its value."""
    owner: type
    """Dataclass of the last of them."""
    kind: Any
    """Its type."""
    default: Any
    """MISSING where it must be given."""
    name: str
    """``--training.steps``, or the place holder of a positional one."""
    is_positional: bool
    hint: str
    short: str
    is_repeated: bool
    is_never_empty: bool

    @property
    def takes_many(self) -> bool:
        """Whether it takes one value or more at once."""
        return self._holds_many and not self.is_repeated

    @property
    def _holds_many(self) -> bool:
        return get_origin(self.kind) is tuple

    @property
    def spellings(self) -> tuple[str, ...]:
        """All names it has; the second one of a flag turns it off."""
        section, dot, name = self.name.removeprefix("--").rpartition(".")
        if self.kind is bool:
            return self.name, f"--{section}{dot}no-{name}"
        return (self.short, self.name) if self.short else (self.name,)

    @property
    def values(self) -> str:
        """What it takes, in capitals or as a list of words: INT, {auto,exact}."""
        if self.kind is bool or self.is_positional:
            return ""
        if not self._holds_many:
            return _values(self.kind)
        return f"{_values(get_args(self.kind)[0])}{' ...' if self.takes_many else ''}"

    def read(self, texts: list[str]) -> Any:
        """Its value.

        Raises:
            ValueError: a text is none of its kind.
        """
        if self.is_never_empty and not texts[0]:
            raise ValueError(f"{self.name} is empty; was a variable meant that is not set?")
        if self._holds_many:
            texts = [] if texts == [""] else texts  # as a shell has no other way to say none
            return tuple(_read(self.name, text, get_args(self.kind)[0]) for text in texts)
        return _read(self.name, texts[0], self.kind)


def options_of(kind: type, start: Any, *, prefix: str = "--") -> Iterator[Option]:
    """The options of a dataclass; the instance ``start``, where there is one, gives defaults."""
    for field, its_type, argument in _fields(kind):
        default = _default(field, start)
        name = field.name.replace("_", "-") if argument.name is None else argument.name
        if isinstance(its_type, type) and dataclasses.is_dataclass(its_type):
            inner = options_of(its_type, default, prefix=f"{prefix}{name}." if name else prefix)
            yield from (dataclasses.replace(o, path=(field.name, *o.path)) for o in inner)
            continue
        yield Option(
            path=(field.name,),
            owner=kind,
            kind=its_type,
            default=default,
            name=name if argument.is_positional else prefix + name,
            is_positional=argument.is_positional,
            hint=argument.hint,
            short=argument.short,
            is_repeated=argument.is_repeated,
            is_never_empty=argument.is_never_empty,
        )


def build(kind: type, start: Any, given: dict[tuple[str, ...], Any]) -> Any:
    """An instance of ``kind``: values ``given`` by path, the others of ``start`` or by default."""
    changes: dict[str, Any] = {}
    for field, its_type, _ in _fields(kind):
        inner = {path[1:]: value for path, value in given.items() if path[0] == field.name}
        if () in inner:
            changes[field.name] = inner[()]
        elif inner:
            changes[field.name] = build(its_type, _default(field, start), inner)
    return kind(**changes) if start is None else dataclasses.replace(start, **changes)


def _fields(kind: type) -> Iterator[tuple[dataclasses.Field[Any], Any, Argument]]:
    """Each field with its type and what `Annotated` adds to it."""
    types = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        its_type, argument = types[field.name], Argument()
        if get_origin(its_type) is Annotated:
            its_type, argument = get_args(its_type)
        yield field, its_type, argument


def _default(field: dataclasses.Field[Any], start: Any) -> Any:
    if start is not None:
        return getattr(start, field.name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _values(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    if choices := get_args(kind):  # a number or a word
        return "|".join(map(_values, choices))
    return str(kind.__name__).upper()


def _read(name: str, text: str, kind: Any) -> Any:
    words = [word for part in (kind, *get_args(kind)) for word in _words(part)]
    numbers = [part for part in (kind, *get_args(kind)) if part in NUMBERS]
    if text in words:
        return text
    for number in numbers:
        try:
            value = number(text)
        except ValueError:
            continue
        return fits_64_bits(name, value) if isinstance(value, int) else value
    if str in get_args(kind):
        return text
    if kind is Path and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        # A path would lose one of the slashes, and nobody the way to the file.
        raise ValueError(
            f"{name} must be a path on this machine, no address, got {shown(text)}; copy what lies "
            "there first"
        )
    if not numbers and not words:
        return kind(text)
    expected = [NUMBERS[number] for number in numbers]
    if words:
        expected.append(f"{'one of ' * (len(words) > 1)}{', '.join(map(repr, words))}")
    raise ValueError(f"{name} must be {' or '.join(expected)}, got {text!r}")


def _words(kind: Any) -> tuple[str, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()
