"""What a sweep does with what its trials tell: their MLflow runs, the driver's decisions, lines."""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

from apdist.data import storage
from apdist.training.cluster.metrics import RayMetrics
from apdist.training.events import (
    Evaluated,
    Event,
    Failed,
    FromTrial,
    Noticed,
    SetMeasured,
    Started,
    StepDone,
    TrialEnded,
    TrialStarted,
    Warned,
    WorkersFailed,
    now_ms,
)
from apdist.training.run_folder.lease import was_taken_over
from apdist.training.run_folder.runs import RUN_NAME, Run, open_run
from apdist.training.sweeps.driving import OVER, Driver
from apdist.training.sweeps.ranking import THROUGHPUT, standings
from apdist.training.sweeps.records import TrialRecord
from apdist.training.tracking.following import Follower, is_unsettled, settle
from apdist.training.tracking.tracker import Tracker
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.progress import Progress
from apdist_verbs.terminal.screen import Screen, measured
from apdist_verbs.terminal.sweep_screen import SweepScreen

LOST = "its process ended without a word: killed, or out of memory"
STATUS = {"finished": "FINISHED", "failed": "FAILED"}
"""Of a trial in MLflow; KILLED: it was stopped."""


class TrialScreen(Screen):
    """Trials run beside each other: the sweep's screen shows how far they are, this the rest."""

    def __init__(self, trial: str) -> None:
        super().__init__(Progress(trial))
        self.trial = trial

    def __call__(self, event: Event) -> None:
        """Show one event of the trial."""
        if isinstance(event, SetMeasured):
            say(f"{self.trial}: {measured(event)}")
        elif isinstance(event, Failed):
            warn(f"{self.trial}: {event.text}")
        elif isinstance(event, Noticed):
            self.notice(event, f"{self.trial}: ")
        elif isinstance(event, Warned | WorkersFailed):
            super().__call__(event)


@dataclass
class Trial:
    """What a sweep holds of one of its trials that runs."""

    follower: Follower
    screen: TrialScreen
    metrics: RayMetrics
    number: int
    lease: int
    """Number of the lease that its process holds."""
    began: float = field(default_factory=time.monotonic)
    watched: str = ""
    """The split by which trials are compared."""
    failure: str = ""

    def __call__(self, event: Event) -> None:
        """Keep, track and show an event."""
        self.follower(event)
        self.metrics(event)
        if isinstance(event, Started):
            self.watched = event.watched
        if isinstance(event, Evaluated) and event.split == self.watched:
            # Also by the name that the sweep has for its objective.
            self.follower.tracker.log_metrics(event.figures, event.step, event.time_ms)
        if isinstance(event, Failed):
            self.failure = event.text
        self.screen(event)

    @property
    def run(self) -> Run:
        """The run of this trial."""
        return self.follower.run

    def figures(self, event: Evaluated) -> dict[str, float]:
        """Those of an evaluation, with the images in a second up to its step."""
        done = [e for e in self.run.of_kind(StepDone) if e.step <= event.step]
        rates = [e.figures["images_per_s"] for e in done]
        return event.figures | ({THROUGHPUT: fmean(rates)} if rates else {})

    def evaluations(self, split: str) -> list[Evaluated]:
        """Those of a split so far."""
        return [event for event in self.run.of_kind(Evaluated) if event.split == split]

    def chosen(self) -> dict[str, float]:
        """The figures of the weights that were saved, on the watched split."""
        found = self.evaluations(self.watched)
        kept = [event for event in found if event.weights] or found
        return self.figures(kept[-1]) if kept else {}


class Board:
    """The trials of a sweep as their events come.

    Args:
        run: of the sweep.
        parent: its run in MLflow.
        driver: decides about the trials.
        watched: the split by which trials are compared.
        screen: what a person sees.
    """

    def __init__(
        self,
        run: Run,
        parent: Tracker,
        driver: Driver,
        watched: str,
        screen: SweepScreen,
    ) -> None:
        self.run, self.parent, self.driver, self.watched = run, parent, driver, watched
        self.screen = screen
        self.stop: Callable[[str], None] = lambda _: None
        self.trials: dict[str, Trial] = {}
        self.groups: dict[str, Any] = {}
        self.over: set[str] = set()
        """Attempts that have told their end."""
        self.is_interrupted = False
        self._closing: dict[str, threading.Thread] = {}
        self._unfit: set[str] = set()
        """Trials that were told to have failed without being tried."""
        screen.resumed(driver.records)

    def on_event(self, told: FromTrial) -> None:
        """Handle an event of a trial."""
        event, name = told.event, told.trial
        if told.placement_group:
            self.groups[name] = told.placement_group
        if isinstance(event, TrialStarted):
            self.add(name, event)
        elif isinstance(event, TrialEnded):
            self.over.add(event.attempt)
            self.end(name, event.failure)
        elif name in self.trials:
            trial = self.trials[name]
            trial(event)
            if isinstance(event, StepDone):
                self.screen.trial_stepped(trial.number, event.step, event.figures)
            if isinstance(event, Evaluated) and event.split == trial.watched:
                self.compare(trial, event)

    def compare(self, trial: Trial, event: Evaluated) -> None:
        """Hand the driver what was measured, and stop the trial where it says so."""
        name, figures = trial.run.name, trial.figures(event)
        if self.driver.evaluated(name, event.step, figures):
            self.stop(name)
        self.screen.trial_evaluated(self.driver.state.named(name), event.step, figures)

    def track_unfit(self) -> None:
        """Show trials that could not be, and give each a run in MLflow that says why."""
        for record in self.driver.records:
            if record.state != "failed" or record.attempts or record.name in self._unfit:
                continue
            self._unfit.add(record.name)
            self.screen.trial_ended(record)
            identity = uuid.uuid5(uuid.NAMESPACE_URL, f"{self.run.uri} {record.name}").hex
            tracker = Tracker(
                *(self.run.config.tracking, record.name),
                parent_id=self.parent.run_id,
                identity=identity,
                must_answer=False,
            )
            tracker.begin(record.params)
            tracker.set_tag("apdist.reason", record.reason)
            self.close_later(record.name, partial(tracker.close, "FAILED"))

    def lost(self, name: str, attempt: str) -> None:
        """Tune says that an attempt is over; one that has not told so was killed."""
        if attempt in self.over:
            return
        from ray.util import remove_placement_group

        self.over.add(attempt)
        # Ray Train learns of the death from the dashboard, if there is one and no second Ray on the
        # machine. Else the next trial would wait for its workers' places for ever.
        if group := self.groups.pop(name, None):
            remove_placement_group(group)
        self.end(name, LOST)

    def add(self, name: str, event: TrialStarted) -> None:
        """A trial begins, or goes on: its MLflow run, and what it was measured at before."""
        self.wait_closed(name)  # of the attempt before
        run = open_run(storage.join(self.run.uri, name))
        run.info.setdefault("datasets", self.run.info.get("datasets", []))
        follower = Follower(run, self.parent.run_id, must_answer=False)
        number = self.driver.state.named(name).number
        trial = Trial(
            follower,
            TrialScreen(name),
            RayMetrics(f"{self.run.name}/{name}"),
            number,
            event.lease,
            watched=self.watched,
        )
        self.trials[name] = trial
        follower.track(run.history)
        for earlier in trial.evaluations(trial.watched):
            if self.driver.evaluated(name, earlier.step, trial.figures(earlier)):
                self.stop(name)
        self.screen.trial_started(self.driver.state.named(name))

    def end(self, name: str, failure: str) -> None:
        """An attempt is over: what the trial came to, in its record and in MLflow."""
        trial = self.trials.pop(name, None)
        seconds = time.monotonic() - trial.began if trial else 0.0
        if trial and trial.run.is_complete:
            record = self.driver.finished(name, seconds, trial.chosen())
        elif self.is_interrupted:
            record = self.driver.put_back(name)
        elif failure:
            told = trial.failure if trial else ""
            record = self.driver.failed(name, seconds, told or failure)
            if record.state == "waiting":
                warn(f"{name} failed ({told or failure}); it is tried again")
        else:
            record = self.driver.stopped(name, seconds)
        if trial:
            self.close_trial(trial, record)
        if record.state in OVER:
            self.screen.trial_ended(record)
            for other in self.driver.repeats_of(record):  # that were not begun
                if other.state == "stopped" and not other.curve:
                    self.screen.trial_ended(other)

    def close_trial(self, trial: Trial, record: TrialRecord) -> None:
        """End the MLflow run, unless somebody has gone on with the trial since it ended."""
        follower = trial.follower
        if self.parent.run_id:  # which may not have been known when it began
            follower.tracker.set_tag("mlflow.parentRunId", self.parent.run_id)
        if was_taken_over(trial.run.uri, trial.lease):
            self.close_later(record.name, partial(follower.tracker.close, status=""))
            return
        if record.reason:
            follower.tracker.set_tag("apdist.reason", record.reason)
        waits_for_another = record.state == "waiting" and record.attempts
        status = STATUS.get(record.state, "FAILED" if waits_for_another else "KILLED")
        self.close_later(record.name, partial(follower.close, status))

    def close_later(self, name: str, close: Callable[[], Any]) -> None:
        """In a thread: a server that is away is waited for, and the other trials are not."""
        thread = threading.Thread(target=close, name=f"end of {name}", daemon=True)
        thread.start()
        self._closing[name] = thread

    def wait_closed(self, name: str) -> None:
        """Return when the end of a trial is told to MLflow, or is left to a resume."""
        if name in self._closing:
            self._closing[name].join()

    def settle(self) -> None:
        """Send MLflow what it lacks of trials that ended while nobody was there to tell it."""
        for record in self.driver.records:
            uri = storage.join(self.run.uri, record.name)
            if record.name in self._closing:  # or this has tried
                continue
            if record.state in OVER and storage.exists(storage.join(uri, RUN_NAME)):
                run = open_run(uri)
                if is_unsettled(run):
                    run.info["ended"] = STATUS.get(record.state, "KILLED")
                    self.close_later(record.name, partial(settle, run))

    def close(self, status: str) -> None:
        """End all MLflow runs."""
        for trial in self.trials.values():  # they were not waited for
            self.close_trial(trial, self.driver.state.named(trial.run.name))
        for thread in self._closing.values():
            thread.join()
        self._track_best()
        self.parent.close(status)
        self.run.save_info(tracking_run_id=self.parent.run_id)

    def _track_best(self) -> None:
        """Log the figures of the best setting so far, by how many trials are over."""
        driver, step = self.driver, self.driver.num_over
        found = standings(driver.records, driver.plan.objectives, driver.config)
        if not found:
            return
        best = found[0]
        means = zip(driver.plan.objectives, best.means, strict=True)
        self.parent.log_metrics({f"best_{o.figure}": mean for o, mean in means}, step, now_ms())
        self.parent.log_metrics(best.test("best_test_"), step, now_ms())
        self.parent.set_tag("apdist.best_trial", best.trials[0].name)
