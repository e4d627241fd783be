"""The best trials of a sweep on the evaluation split: measured once, when all trials are over.

What was measured is in the trial's history, as it would be of any run, and in its record.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import islice

from apdist.data import storage
from apdist.training.cluster.background import Background
from apdist.training.cluster.ends import Interrupted, gist
from apdist.training.cluster.remote import Inbox, remote_mailbox
from apdist.training.cluster.signals import counted_signals
from apdist.training.cluster.trainer import build_trainer
from apdist.training.cluster.watch import watch
from apdist.training.events import (
    Ended,
    Evaluated,
    FromTrial,
    PhaseBegan,
    SetMeasured,
    Warned,
    WorkersFailed,
)
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import open_run
from apdist.training.sweeps.ranking import standings
from apdist.training.sweeps.records import TrialRecord
from apdist.training.tracking.following import Follower
from apdist_verbs.sweeping.board import Board
from apdist_verbs.sweeping.trials import TrialLink
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.screen import measured


def finalists(board: Board, most: int) -> list[TrialRecord]:
    """The trials of the ``most`` best settings whose figures on the evaluation split are missing.

    Those that a history has are noted: of a run that somebody trained, or a sweep that was killed
    before it had noted them.
    """
    driver, split = board.driver, board.run.config.data.eval_split
    if split == board.watched:  # by which settings were compared is no test
        return []
    found = standings(driver.records, driver.plan.objectives, driver.config)
    best = [record for standing in islice(found, most) for record in standing.trials]
    for record in best:
        run = open_run(storage.join(board.run.uri, record.name))
        known = [e for e in run.of_kind(Evaluated) if e.split == split and e.step == run.steps_done]
        if known and record.test != known[-1].figures:
            driver.measured_on_test(record.name, known[-1].figures)
    return [record for record in best if not driver.state.named(record.name).test]


def measure_finals(board: Board, records: Sequence[TrialRecord]) -> None:
    """Measure the models of these trials on the cluster; what fails is told, and ends no sweep.

    Raises:
        Interrupted: a person stopped it; what is missing is measured by a resume.
    """
    from apdist.training.finalists import Finalists, measure_finalists

    mailbox, work = remote_mailbox(), Background("finals")
    board.screen.phase("starting workers to measure the best trials")
    with ExitStack() as stack:
        finals = Finals(board)
        opened = [r for r in records if stack.enter_context(finals.opened(r))]
        stack.callback(finals.close)
        links = [(finals.uri(r.name), TrialLink(mailbox, r.name)) for r in opened]
        job = Finalists(board.run.config, board.run.uri, tuple(links))
        with counted_signals() as signals, work.ended():
            trainer = partial(build_trainer, job, TrialLink(mailbox, ""), measure_finalists)
            work.start(lambda: trainer().fit())
            watch(work, Inbox[FromTrial](mailbox), [finals], signals, interrupt)
            try:
                work.result()
            except Exception as error:
                warn(
                    f"the best trials were not all measured on {board.run.config.data.eval_split} "
                    f"({gist(error)}); `apdist sweep --resume` measures those that are missing"
                )


def interrupt(number: int) -> None:
    """End at once: there is nothing to save.

    Raises:
        Interrupted: always.
    """
    del number
    raise Interrupted


class Finals:
    """Keeps, tracks and shows what is found of each trial; a listener of `watch`.

    Args:
        board: of the sweep.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.followers: dict[str, Follower] = {}

    @contextmanager
    def opened(self, record: TrialRecord) -> Iterator[bool]:
        """Hold a trial that is over, so that nobody goes on with it; whether that could be."""
        board, name = self.board, record.name
        board.wait_closed(name)
        run = open_run(storage.join(board.run.uri, name))
        with ExitStack() as stack:
            try:
                run.lease = stack.enter_context(held(run.uri, say))
            except ValueError as error:
                warn(f"{name} is not measured: {error}")
                yield False
                return
            self.followers[name] = Follower(run, board.parent.run_id, must_answer=False)
            self.followers[name].track(run.history)  # it may not have been sent to its end
            yield True
            board.wait_closed(name)

    def close(self) -> None:
        """End the MLflow runs again, each at the time when it was trained to its end."""
        for name, follower in self.followers.items():
            end_ms = follower.run.of_kind(Ended)[-1].time_ms
            self.board.close_later(name, partial(follower.close, "FINISHED", end_ms))

    def uri(self, name: str) -> str:
        """Of the run of a trial that is held."""
        return self.followers[name].run.uri

    def __call__(self, told: FromTrial) -> None:
        """Handle an event of one of them."""
        event, name = told.event, told.trial
        if isinstance(event, PhaseBegan):
            self.board.screen.phase(f"{event.name}: {name}" if event.name else "")
        elif isinstance(event, Evaluated | SetMeasured):
            self.followers[name](event)
            say(f"{name}: {measured(event)}")
            if isinstance(event, Evaluated):
                self.board.driver.measured_on_test(name, event.figures)
        elif isinstance(event, Warned | WorkersFailed):
            warn(event.text if isinstance(event, Warned) else f"{event}; starting again")
