"""What a person sees: one console, progress that also reads well in a log file, tables."""

import time
from collections import deque
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
)
from rich.table import Table

from apdist_verbs.terminal.stopping import check_asked

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

LOG_EVERY_S = 10.0
WINDOW_S = 60.0
"""Seconds over which a rate is taken: an evaluation now and then belongs to it."""
GRAIN_S = 0.1


def say(text: str) -> None:
    """Print a line; square brackets in it are plain text."""
    console.print(text, markup=False)


def warn(text: str) -> None:
    """Print a warning to the error stream."""
    errors.print(f"warning: {text}", markup=False, style="yellow")


def counted(number: int, one: str, many: str = "") -> str:
    """``1 image``, ``2 images``; `many` where the plural is not made with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


class Update(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, note: str = "") -> None:
        """Say how many are done, and a text to show beside it."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Update]:
    """A bar with rate and remaining time; where no terminal is, a line now and then.

    Yields:
        A function that takes the number done and a text to show beside it. It raises
        `KeyboardInterrupt` after a Ctrl-C that got lost.
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
        TextColumn("{task.fields[left]}"),
        console=console,
    )
    with bar:
        task = bar.add_task(title, total=total, note="", left="")
        pace = Pace()

        def update(done: int, note: str = "") -> None:
            check_asked()
            pace.add(done, time.monotonic())
            bar.update(task, completed=done, note=note, left=pace.left(total))

        yield update


class Pace:
    """How fast it goes: over a recent stretch, without the first step, which compiles and warms up.

    Each update has the number done and the time in seconds.
    """

    def __init__(self) -> None:
        self.last = -1
        self.seen: deque[tuple[float, int]] = deque()

    def add(self, done: int, now: float) -> None:
        """Note an update; the first one, and one that goes back, is a start and no step."""
        is_start = self.last < 0 or done <= self.last
        self.last = done
        if is_start:
            self.seen.clear()
            return
        if len(self.seen) > 1 and now - self.seen[-2][0] < GRAIN_S:
            self.seen.pop()  # thousands of updates a second need not all be kept
        self.seen.append((now, done))
        while len(self.seen) > 2 and now - self.seen[0][0] > WINDOW_S:
            self.seen.popleft()

    def rate(self) -> float:
        """Steps a second; 0 before two steps were seen."""
        if len(self.seen) < 2:
            return 0.0
        (before, first), (now, last) = self.seen[0], self.seen[-1]
        return (last - first) / max(now - before, 1e-9)

    def left(self, total: int) -> str:
        """What to show of rate and remaining time; empty before two steps were seen."""
        rate = self.rate()
        if not rate:
            return ""
        remaining = total - self.last
        return f"{rate:.1f}/s" + (f"  {remaining / rate:.0f} s left" if remaining > 0 else "")


def _line_writer(title: str, total: int) -> Update:
    pace = Pace()
    written = time.monotonic()

    def update(done: int, note: str = "") -> None:
        nonlocal written
        check_asked()
        now = time.monotonic()
        is_start = pace.last < 0
        pace.add(done, now)
        if is_start:  # the time that starting took is no step's
            written = now
        if now - written < LOG_EVERY_S and done < total:
            return
        written = now
        say(f"{title} {done}/{total}  {note}  {pace.left(total)}".rstrip())

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


def _is_figure(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
