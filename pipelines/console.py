"""What a person sees: one console, progress that also reads well in a log file, tables."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

LOG_EVERY_S = 10.0


def say(text: str) -> None:
    """Print a line; square brackets in it are plain text."""
    console.print(text, markup=False)


def warn(text: str) -> None:
    """Print a warning to the error stream."""
    errors.print(f"warning: {text}", markup=False, style="yellow")


class Update(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, note: str = "") -> None:
        """Say how many are done, and a text to show beside it."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Update]:
    """A bar with rate and remaining time; where no terminal is, a line now and then.

    Yields:
        A function that takes the number done and a text to show beside it.
    """
    if not console.is_terminal:
        yield _line_writer(title, total)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task(title, total=total, note="")

        def update(done: int, note: str = "") -> None:
            bar.update(task, completed=done, note=note)

        yield update


def _is_figure(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _line_writer(title: str, total: int) -> Update:
    started = last = 0.0
    first = -1

    def update(done: int, note: str = "") -> None:
        nonlocal started, last, first
        now = time.monotonic()
        if first < 0:  # what was done before, and the time that starting took, are no rate
            first, started, last = done, now, now
        if now - last < LOG_EVERY_S and done < total:
            return
        last = now
        rate = (done - first) / max(now - started, 1e-9)
        left = f"{(total - done) / rate:.0f} s left" if rate > 0 else ""
        say(f"{title} {done}/{total}  {note}  {rate:.1f}/s  {left}".rstrip())

    return update


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; columns of figures are set to the right."""
    result = Table(title=title, title_justify="left")
    for i, column in enumerate(columns):
        figures = all(_is_figure(row[i]) for row in rows)
        result.add_column(column, justify="right" if figures else "left", overflow="fold")
    for row in rows:
        # Class names and paths are the user's: their square brackets are no markup.
        result.add_row(*(escape(cell) for cell in row))
    console.print(result)
