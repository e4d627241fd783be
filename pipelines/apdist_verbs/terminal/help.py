"""The help of a verb: its options in boxes, a box for each section."""

import ast
import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING
from itertools import groupby, pairwise

from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from apdist_verbs.terminal.console import Lasting
from apdist_verbs.terminal.fields import Option

WIDEST = 100
"""Characters of a line that is read with ease."""
WIDEST_COLUMN = 26
"""Characters of a column of names; where one is longer, texts stand below the names."""


def show_help(
    prog: str, description: str, options: list[Option], common: Sequence[str] = ()
) -> None:
    """Print the help of the verb ``prog``; of many options, the ``common`` ones."""
    positional = [option for option in options if option.is_positional]
    named = [option for option in options if not option.is_positional]
    names = [_place(option) for option in positional]
    usage = " ".join(["usage:", prog, "[OPTIONS]" if named else "[-h]", *names])
    console = Lasting(highlight=False)
    console.width = min(console.width, WIDEST)
    console.print(f"{usage}\n\n{inspect.cleandoc(description)}\n", markup=False)
    if positional:
        console.print(_box("arguments", "", _rows(positional)))
    help_row = (Text("-h, --help", "bold"), Text("Show this help and exit."))
    if common:
        by_name = {option.name: option for option in named}
        rest = (
            Text("--help-all", "bold"),
            Text(f"Show all {len(named)} options, of data, loss, cluster and the rest."),
        )
        shown = _rows([by_name[name] for name in common])
        console.print(_box("options that people change", "", [*shown, help_row, rest]))
        return
    own = [option for option in named if len(option.path) == 1]
    console.print(_box("options", "", [help_row, *_rows(own)]))
    sections = [option for option in named if len(option.path) > 1]
    for (section, owner), members in groupby(
        sections, lambda o: (o.path[-2].replace("_", "-"), o.owner)
    ):
        console.print(_box(f"{section} options", owner.__doc__ or "", _rows(list(members))))


def _place(option: Option) -> str:
    """A positional option in a line of usage."""
    name = f"{option.name}{' ...' if option.takes_many else ''}"
    return name if option.default is MISSING else f"[{name}]"


def _rows(options: list[Option]) -> list[tuple[Text, Text]]:
    return [(_label(option), _text(option)) for option in options]


def _label(option: Option) -> Text:
    return Text.assemble((", ".join(option.spellings), "bold"), f" {option.values}".rstrip())


def _text(option: Option) -> Text:
    """What it is for, and its default."""
    words = " ".join(texts_of(option.owner).get(option.path[-1], "").split())
    default = option.default
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    hint = "required" if default is MISSING else f"default: {shown or 'none'}"
    return Text.assemble(words, " ", (f"({option.hint or hint})", "cyan"))


def texts_of(kind: type) -> dict[str, str]:
    """The texts below the fields of a dataclass and of those that it extends."""
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, below in pairwise(definition.body):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = text
    return texts


def _box(title: str, words: str, rows: list[tuple[Text, Text]]) -> Panel:
    parts: list[RenderableType] = [Text(" ".join(words.split()), "italic")] if words else []
    if max(label.cell_len for label, _ in rows) > WIDEST_COLUMN:
        parts += [part for label, text in rows for part in (label, Padding(text, (0, 0, 0, 6)))]
    else:
        columns = Table.grid(padding=(0, 2))
        for row in rows:
            columns.add_row(*row)
        parts.append(columns)
    return Panel(Group(*parts), title=title, title_align="left", box=ROUNDED, border_style="dim")
