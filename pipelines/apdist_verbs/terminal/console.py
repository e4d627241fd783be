"""What a person sees: one console, lines, tables."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from apdist.addresses import without_secrets

if not os.environ.get("COLUMNS", "").strip("0"):
    os.environ.pop("COLUMNS", None)  # said by what does not know its width; Rich would show nothing


class Lasting(Console):
    """Where the reader leaves, as `head` does, nothing more is shown, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Write what follows to nowhere."""
        self.quiet = True
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


console = Lasting(highlight=False, soft_wrap=True)
errors = Lasting(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line without secrets; square brackets in it are plain text."""
    console.print(without_secrets(text), markup=False)


def warn(text: str) -> None:
    """Print a warning to the error stream."""
    for_errors().print(f"warning: {without_secrets(text)}", markup=False, style="yellow")


def for_errors() -> Console:
    """Where errors are written: on a terminal beside the progress, which then makes room."""
    return console if console.is_terminal and errors.is_terminal else errors


@contextmanager
def said_beside_output() -> Iterator[None]:
    """Inside, lines, tables and progress go to the error stream: the output is for a program."""
    before, console.stderr = console.stderr, True
    try:
        yield
    finally:
        console.stderr = before


def counted(number: int, one: str, many: str = "") -> str:
    """``1 image``, ``2 images``; `many` where the plural is not made with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns of figures are set to the right."""
    result = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        figures = all(_is_figure(row[i]) for row in rows)
        result.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        # Class names and paths are the user's: their square brackets are no markup.
        result.add_row(*(escape(without_secrets(cell)) for cell in row))
    console.print(result)


def _is_figure(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
