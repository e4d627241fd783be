"""Progress: a line that a terminal redraws, in a log file a line every few seconds.

The line tells how much is done, and by name whatever else goes on: a phase, in which no step is
done. Nothing that takes longer than a moment is silent.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from apdist_verbs.terminal.console import console, say
from apdist_verbs.terminal.pace import Pace, duration
from apdist_verbs.terminal.stopping import check_asked

LOG_EVERY_S = 5.0
LOG_WIDTH = 160
PATIENCE_S = 1.0
"""A phase that has lasted so long gets a line of its own in a log file."""
LOOK_EVERY_S = 0.25
BAR_WIDTH = 24
GAP = "  "


class Progress:
    """What goes on, as a line.

    Args:
        title: what is done.
        total: how many of it; 0: nothing is counted.
        clock: seconds, for updates that bring no time of their own.
    """

    log_every_s = LOG_EVERY_S
    """How often a log file gets the line."""

    def __init__(
        self, title: str, total: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.title, self.total, self.clock = title, total, clock
        self.done, self.note, self.phase_name = 0, "", ""
        self._pace, self._left = Pace(), ""
        self._began = self.phase_began = clock()

    def __call__(self, done: int, note: str = "", at: float | None = None) -> None:
        """Say how many are done, which ends a phase, and a text to show beside it.

        Args:
            done: the number.
            note: parts with two spaces between them; the last ones are cut first.
            at: when that was, in seconds of the clock of whoever did it; it is always the same one.

        Raises:
            KeyboardInterrupt: after a Ctrl-C that got lost.
        """
        check_asked()
        self._pace.add(done, self.clock() if at is None else at)
        self.done, self.note, self.phase_name = done, note, ""
        self._left = self._pace.left(self.total)

    def start(self, done: int) -> None:
        """Say how many are done already; the pace is that of what follows."""
        self._pace.start(done)
        self.done, self.note, self._left = done, "", ""

    def phase(self, name: str, at: float | None = None) -> None:
        """Say what goes on between two steps; with an empty name the steps go on."""
        now = self.clock() if at is None else at
        (self._pace.pause if name else self._pace.resume)(now)
        if name != self.phase_name:
            self.phase_name, self.phase_began = name, self.clock()

    def line(self, width: int, marks: str = "") -> str:
        """As much as ``width`` characters hold: the count is the last to be cut.

        Args:
            width: of the line.
            marks: two characters, of what is done and what is not, to draw a bar.
        """
        now = self.clock()
        count = f"{self.done}/{self.total}" if self.total else ""
        told = self.phase_name or ("" if self.total else self.title)
        waited = duration(now - self.phase_began) if told and now - self.phase_began >= 1 else ""
        elapsed = clock_time(now - self._began) if self.total else ""
        title = self.title if self.total else ""
        rest = [part for part in self.note.split(GAP) if part]
        bar = ""
        if marks and self.total:
            full = round(BAR_WIDTH * min(self.done / self.total, 1))
            bar = (marks[0] * full).ljust(BAR_WIDTH, marks[1])
        left = "" if self.phase_name else self._left
        shown = [(2, title), (9, bar), (0, count), (1, told), (3, waited), (4, left), (5, elapsed)]
        return fitted([*shown, *((6, part) for part in rest)], width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The line as wide as the terminal is."""
        marks = "#." if options.ascii_only else "━╌"
        yield Text(self.line(options.max_width, marks), no_wrap=True, overflow="crop")


def fitted(parts: Sequence[tuple[int, str]], width: int) -> str:
    """Those of ``parts`` that go into ``width``, in their order; those of low rank come first."""
    room, kept = width + len(GAP), set[int]()
    present = [i for i, (_, text) in enumerate(parts) if text]
    for i in sorted(present, key=lambda i: parts[i][0]):
        size = len(parts[i][1]) + len(GAP)
        if size <= room or not kept:
            kept.add(i)
            room -= size
    return GAP.join(parts[i][1] for i in sorted(kept))[:width]


def clock_time(seconds: float) -> str:
    """``0:07``, ``1:02:03``."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class LogLines:
    """Which lines a log file gets: not thousands, and not none.

    Args:
        progress: what goes on; its clock is used.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._written_at = progress.clock()
        self._written: tuple[int, str] = (0, "")

    def due(self) -> str:
        """The line to write now; empty where none is due."""
        progress, now = self.progress, self.progress.clock()
        is_new_phase = (
            progress.phase_name not in ("", self._written[1])
            and now - progress.phase_began >= PATIENCE_S
        )
        is_due = is_new_phase or now - self._written_at >= progress.log_every_s
        return self._line(now) if is_due else ""

    def last(self) -> str:
        """The line that ends it; empty where there is nothing to add."""
        progress = self.progress
        if not progress.total or (progress.done, "") == self._written:
            return ""
        return self._line(progress.clock())

    def _line(self, now: float) -> str:
        self._written_at = now
        self._written = (self.progress.done, self.progress.phase_name)
        return self.progress.line(LOG_WIDTH)


_current: list[Progress] = []
"""What is shown now: one line at a time."""


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Progress]:
    """Show how far the block is; it calls what it is given."""
    progress = Progress(title, total)
    with shown(progress):
        yield progress


@contextmanager
def shown(progress: Progress) -> Iterator[None]:
    """Show how far the block is; its last line stays."""
    with _shown(progress, is_kept=True):
        try:
            yield
        finally:
            progress.phase("")


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Show what the block does, which cannot be counted: beside the bar, if there is one.

    Raises:
        KeyboardInterrupt: at its end, after a Ctrl-C that got lost.
    """
    if not _current:
        with _shown(Progress(name), is_kept=False):
            yield
        check_asked()
        return
    bar = _current[-1]
    before = bar.phase_name
    bar.phase(name)
    try:
        yield
    finally:
        bar.phase(before)
    check_asked()


def is_redrawn() -> bool:
    """Whether the output is a terminal that can draw over what it shows."""
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def _shown(progress: Progress, is_kept: bool) -> Iterator[None]:
    _current.append(progress)
    try:
        if is_redrawn():
            with Live(progress, console=console, refresh_per_second=8, transient=not is_kept):
                yield
        else:
            with _written(LogLines(progress)):
                yield
    finally:
        _current.remove(progress)


@contextmanager
def _written(lines: LogLines) -> Iterator[None]:
    """Write the lines that are due from a thread: who works has no time to look at a clock."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(LOOK_EVERY_S):
            if line := lines.due():
                say(line)

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        if line := lines.last():
            say(line)
