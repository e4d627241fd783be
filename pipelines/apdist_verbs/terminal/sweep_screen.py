"""What a person sees of a sweep: a table that a terminal redraws, elsewhere a line for each event.

    screen = SweepScreen(40, steps=240, objectives=["map"])
    screen.resumed(records)                          # of a sweep that goes on
    with shown(screen):                              # of progress.py
        screen.phase("starting Ray")                 # what takes a moment, by its name
        screen.trial_started(record)
        screen.trial_stepped(number, step, figures)  # of StepDone: images_per_s
        screen.trial_evaluated(record, step, figures)
        screen.trial_ended(record)                   # state and reason are the record's

It knows records and figures, nothing of what runs the trials. One thread calls it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, zip_longest

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from apdist.report.sweeps.axes import cut, words
from apdist.report.sweeps.settings import Objective, objective
from apdist.training.sweeps.records import TrialRecord
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.pace import Pace, duration
from apdist_verbs.terminal.progress import GAP, Progress, is_redrawn

QUIET_S = 60.0
"""After which a log file hears of a sweep in which nothing happens."""
ENDED = ("finished", "stopped", "failed")
STYLES = {"running": "cyan", "finished": "green", "stopped": "yellow", "failed": "red"}
FEWEST_ROWS = 3
LEAST_PARAMS = 16
"""Characters below which parameters say nothing."""
LONGEST_NAME = 30
AROUND_TABLE = 5
"""Lines of a terminal for the table's head, its foot and the progress."""


@dataclass
class _Row:
    """A trial as it is shown."""

    record: TrialRecord
    step: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    """The last evaluation's."""
    images_per_s: float = 0.0
    pace: Pace = field(default_factory=Pace)
    is_over: bool = False

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def state(self) -> str:
        return self.record.state if self.is_over else "running"


class SweepScreen(Progress):
    """The trials of a sweep and how far they are.

    Args:
        total: trials that will be tried.
        steps: of a training that comes to its end.
        objectives: keys of figures, ``-`` before one that is to be small.
        clock: seconds.
    """

    log_every_s = QUIET_S

    def __init__(
        self,
        total: int,
        *,
        steps: int,
        objectives: Sequence[str] = ("map",),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("trials", total, clock)
        self.steps = steps
        self.objectives: list[Objective] = [objective(text) for text in objectives]
        self.rows: dict[int, _Row] = {}
        self._work = Pace()

    def resumed(self, records: Iterable[TrialRecord]) -> None:
        """Take trials of an earlier part of the sweep; nothing is said of them one by one."""
        for record in records:
            if record.curve or record.state in ENDED:
                row = _row_of(record)
                row.is_over = record.state in ENDED
                self.rows[record.number] = row
        self._work.start(self._steps_done())
        states = Counter(row.state for row in self.rows.values() if row.is_over)
        if states:
            counted = ", ".join(f"{count} {state}" for state, count in states.items())
            say(f"going on with {counted}{self._best_words('; ')}")
        self._moved()

    def trial_started(self, record: TrialRecord) -> None:
        """A trial begins, or goes on from its last evaluation."""
        self.rows[record.number] = row = _row_of(record)
        begun = f"goes on from step {row.step}" if row.step else "started"
        if not is_redrawn():
            say(f"{record.name} ({record.number + 1} of {self.total}) {begun}: {_params(record)}")
        self._moved()

    def trial_stepped(self, number: int, step: int, figures: Mapping[str, float]) -> None:
        """A trial's step is done; nothing is said of it in a log file."""
        row = self.rows[number]
        row.step = step
        row.images_per_s = figures.get("images_per_s", row.images_per_s)
        row.pace.add(step, self.clock())
        self._moved()

    def trial_evaluated(self, record: TrialRecord, step: int, figures: Mapping[str, float]) -> None:
        """A trial was measured after ``step``."""
        row = self.rows.setdefault(record.number, _row_of(record))
        row.record, row.step, row.figures = record, max(step, row.step), dict(figures)
        if not is_redrawn():
            speed = f", {row.images_per_s:.0f} images/s" if row.images_per_s else ""
            best = self._best_words("; ")
            say(f"{record.name} step {step}/{self.steps}: {self._figures(row)}{speed}{best}")
        self._moved()

    def trial_ended(self, record: TrialRecord) -> None:
        """A trial is over: ``state`` and ``reason`` say how; a failure stays on a terminal, too."""
        row = self.rows.setdefault(record.number, _row_of(record))
        row.record, row.is_over = record, True
        row.figures = dict(record.figures) or row.figures
        reason = f": {record.reason}" if record.reason else ""
        if record.state == "failed":
            warn(f"{record.name} failed after step {row.step}{reason}")
        elif not is_redrawn():
            took = f" in {duration(record.seconds)}" if record.seconds else ""
            figures = f", {self._figures(row)}" if row.figures else ""
            say(f"{record.name} {record.state} after step {row.step}{took}{figures}{reason}")
        self._moved()

    def best(self) -> tuple[str, float] | None:
        """Name and figure of the best trial so far."""
        first = self.objectives[0]
        found = [
            (row.name, row.figures[first.key])
            for row in [*self.rows.values()]
            if first.key in row.figures and row.state != "failed"
        ]
        return max(found, key=lambda each: first.sign * each[1]) if found else None

    def _moved(self) -> None:
        """Bring the line up to date; the pace is that of the steps of all trials."""
        done = self._steps_done()
        self._work.add(done, self.clock())
        self(sum(row.is_over for row in self.rows.values()), self._best_words().strip())
        rate, ahead = self._work.rate(), self._steps_ahead()
        # Without a step to come there is the last measuring, of which nothing is known yet.
        self._left = f"{duration(ahead / rate)} left" if rate and ahead else ""

    def _steps_done(self) -> int:
        return sum(row.step for row in self.rows.values())

    def _steps_ahead(self) -> float:
        """Steps that will be done: those that wait will need as many as those that are over."""
        rows = list(self.rows.values())
        over = [row.step for row in rows if row.is_over and row.state != "failed"]
        usual = sum(over) / len(over) if over else self.steps
        running = sum(max(usual - row.step, 0) for row in rows if not row.is_over)
        return running + usual * max(self.total - len(rows), 0)

    def _best_words(self, before: str = "") -> str:
        best = self.best()
        if best is None:
            return ""
        return f"{before}best so far: {self.objectives[0].label} {best[1]:.4f} of {best[0]}"

    def _figures(self, row: _Row) -> str:
        return ", ".join(
            f"{each.label} {_number(row.figures[each.key])}"
            for each in self.objectives
            if each.key in row.figures
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table as high as the terminal has room, and the line."""
        yield self.table(options.max_width, max(FEWEST_ROWS, console.height - AROUND_TABLE))
        yield from super().__rich_console__(console, options)

    def table(self, width: int, most: int) -> Table:
        """The ``most`` trials that matter, those that run and then the best; columns that fit."""
        # A copy: the terminal is drawn by a thread of its own.
        rows = sorted([*self.rows.values()], key=self._place)
        labels = [each.label for each in self.objectives]
        head = ["trial", "state", "step", *labels, "images/s", "left", "parameters"]
        cells = [self._cells(row) for row in rows[:most]]
        widths = [max(map(cell_len, column)) for column in zip(head, *cells, strict=True)]
        needed = list(accumulate(size + len(GAP) for size in widths[:-1]))
        shown = sum(end - len(GAP) <= width for end in needed)
        room = width - needed[-1]
        has_params = shown == len(needed) and room >= LEAST_PARAMS
        left_out = len(rows) - most
        table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), caption_justify="left")
        table.caption = f"and {left_out} more" if left_out > 0 else None
        for place, name in enumerate(head[: shown + has_params]):
            is_text = place < 2 or name == "parameters"
            table.add_column(
                Text(name),
                justify="left" if is_text else "right",
                no_wrap=True,
                overflow="ellipsis",
            )
        best = self.best()
        for row, texts in zip(rows, cells, strict=False):
            is_best = best is not None and row.name == best[0]
            texts[-1] = set_cell_size(texts[-1], room - 1) if has_params else ""
            styles = ["bold" if is_best else "", STYLES[row.state]]
            table.add_row(
                *(
                    Text(text, style)
                    for text, style in zip_longest(
                        texts[: shown + has_params], styles[:shown], fillvalue=""
                    )
                )
            )
        return table

    def _cells(self, row: _Row) -> list[str]:
        values = [
            _number(row.figures[each.key]) if each.key in row.figures else "-"
            for each in self.objectives
        ]
        rate = row.pace.rate()
        left = duration((self.steps - row.step) / rate) if rate and not row.is_over else ""
        speed = f"{row.images_per_s:.0f}" if row.images_per_s and not row.is_over else ""
        name, step = cut(row.name, LONGEST_NAME), f"{row.step}/{self.steps}"
        return [name, row.state, step, *values, speed, left, _params(row.record)]

    def _place(self, row: _Row) -> tuple[bool, float, int]:
        """Those that run first, then the best; what was never measured comes last."""
        first = self.objectives[0]
        value = row.figures.get(first.key)
        rank = float("inf") if value is None else -first.sign * value
        return row.is_over, rank if row.is_over else 0.0, row.record.number


def _row_of(record: TrialRecord) -> _Row:
    row = _Row(record)
    if record.curve:
        row.step, row.figures = record.curve[-1][0], dict(record.figures)
    row.pace.start(row.step)
    return row


def _params(record: TrialRecord) -> str:
    return ", ".join(f"{name} {words(value)}" for name, value in record.params.items())


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"
