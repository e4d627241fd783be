"""The trials of a sweep: trainings that Tune starts, each with a run and an MLflow run."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from apdist.config import Config, override
from apdist.config.loss_section import fitting
from apdist.config.values import shown as shown_value
from apdist.data import storage
from apdist.training.cluster.background import Background
from apdist.training.cluster.launch import Interrupted, build_trainer
from apdist.training.cluster.metrics import RayMetrics
from apdist.training.cluster.remote import RemoteLink
from apdist.training.cluster.signals import counted_signals
from apdist.training.cluster.watch import watch
from apdist.training.events import (
    Ended,
    Evaluated,
    Event,
    Failed,
    FromTrial,
    Noticed,
    PhaseBegan,
    SetMeasured,
    Started,
    StepDone,
    TrialStarted,
    WorkersFailed,
)
from apdist.training.run_folder.lease import held, was_taken_over
from apdist.training.run_folder.runs import Run, create_run
from apdist.training.tracking.following import Follower
from apdist.training.tracking.tracker import Tracker
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.progress import Progress
from apdist_verbs.terminal.screen import Screen, measured

logger = logging.getLogger(__name__)

OBJECTIVE = "map"
TRIALS_LEASE = 1
"""Number of the lease that a trial takes of its new run."""


def run_trial(
    params: dict[str, Any], *, config: Config, preset_name: str, mailbox: Any, sweep: str
) -> None:
    """One training, in a process that Tune starts."""
    from ray import tune
    from ray.tune.integration.ray_train import TuneReportCallback

    from apdist.training.loop import Job

    trial = tune.get_context().get_trial_id()
    run = create_run(trial_config(config, sweep, trial, params), preset_name)
    link = TrialLink(mailbox, trial)
    link.post(TrialStarted(params=fitting(params, config.loss)))
    with held(run.uri, logger.warning) as lease:
        job = Job(run.config, run.uri, report_metrics, lease)
        build_trainer(job, link, callbacks=[TuneReportCallback()]).fit()


def trial_config(config: Config, sweep: str, trial: str, params: dict[str, Any]) -> Config:
    """The options of a trial: those of ``params`` that its loss has."""
    own = fitting(params, config.loss)
    return override(config, {**own, "run.output": sweep, "run.name": trial})


def report_metrics(metrics: dict[str, float]) -> None:
    """Hand the metrics of an evaluation to Tune; every worker must call it."""
    from ray import train

    train.report(metrics)


class TrialLink(RemoteLink):
    """Events of one trial in the sweep's mailbox."""

    def __init__(self, actor: Any, trial: str) -> None:
        super().__init__(actor)
        self.trial = trial

    def post(self, event: Event) -> None:
        """Send with the trial's name, and at the start with what the workers occupy."""
        from ray.util import get_current_placement_group

        group = get_current_placement_group() if isinstance(event, Started) else None
        self.send(FromTrial(trial=self.trial, event=event, placement_group=group))

    def failures(self) -> list[WorkersFailed]:
        """Those of this trial."""
        return [
            posted.event
            for posted in self.posted_failures()
            if posted.trial == self.trial and isinstance(posted.event, WorkersFailed)
        ]


class TrialScreen(Screen):
    """Trials run beside each other: their evaluations are shown, not their steps."""

    def __init__(self, trial: str) -> None:
        super().__init__(Progress(f"trial {trial}"))
        self.trial = trial

    def __call__(self, event: Event) -> None:
        """Show one event of the trial."""
        if isinstance(event, Evaluated | SetMeasured | Ended):
            say(f"trial {self.trial}: {measured(event)}")
        elif isinstance(event, Failed):
            warn(f"trial {self.trial}: {event.text}")
        elif isinstance(event, Noticed):
            self.notice(event, f"trial {self.trial}: ")
        else:
            super().__call__(event)


@dataclass
class Trial:
    """What a sweep holds of one of its trials."""

    follower: Follower
    screen: TrialScreen
    metrics: RayMetrics
    failures: list[Failed] = field(default_factory=list)
    watched: str = ""
    """The split by which trials are compared."""

    def __call__(self, event: Event) -> None:
        """Keep, track and show an event."""
        self.follower(event)
        if isinstance(event, Started):
            self.watched = event.watched
        if isinstance(event, Evaluated) and event.split == self.watched:
            # Also by the name that the sweep has for its objective.
            self.follower.tracker.log_metrics(event.figures, event.step, event.time_ms)
        if isinstance(event, Failed):
            self.failures.append(event)
        self.screen(event)
        self.metrics(event)

    def close(self) -> None:
        """End the MLflow run, unless somebody has gone on with the trial since it ended."""
        run = self.follower.run
        if was_taken_over(run.uri, TRIALS_LEASE):
            self.follower.tracker.close(status="")
        elif run.of_kind(Ended):
            self.follower.close("FINISHED")
        else:
            self.follower.close("FAILED" if self.failures else "KILLED")


class Board:
    """The trials of a sweep: their run folders, MLflow runs and what is shown of them."""

    def __init__(
        self, run: Run, parent: Tracker, config: Config, preset_name: str, progress: Progress
    ) -> None:
        self.run, self.parent, self.config, self.preset_name = run, parent, config, preset_name
        self.progress = progress
        self.ended: set[str] = set()
        self.tuner = Background("tuner")
        self.trials: dict[str, Trial] = {}
        self.groups: dict[str, Any] = {}

    def watch(self, fit: Callable[[], Any], take: Callable[[bool], list[FromTrial]]) -> Any:
        """Run ``fit`` in a thread, hand on events, end at Ctrl-C."""

        def on_signal(_: int) -> None:
            raise Interrupted

        with counted_signals() as signals:
            self.tuner.start(fit)
            watch(self.tuner, take, [self.on_event], signals, on_signal)
        self.progress(len(self.ended))
        return self.tuner.result()

    def releaser(self) -> Any:
        """A callback for Tune that gives back what the workers of an ended trial occupy.

        Tune ends the trial's own process; Ray Train learns of that from the dashboard, if there is
        one and no second Ray on the machine. Else the next trial would wait for ever.
        """
        from ray import tune
        from ray.util import remove_placement_group

        groups, ended = self.groups, self.ended  # Tune pickles what it calls back

        class Releaser(tune.Callback):
            def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **_: Any) -> None:
                del iteration, trials
                ended.add(trial.trial_id)
                if group := groups.pop(trial.trial_id, None):
                    remove_placement_group(group)

            on_trial_error = on_trial_complete

        return Releaser()

    def on_event(self, told: FromTrial) -> None:
        """Handle an event of a trial."""
        self.show(told)
        if told.placement_group:
            self.groups[told.trial] = told.placement_group
        if isinstance(told.event, TrialStarted):
            self.add(told.trial, told.event.params)
        else:
            self.trials[told.trial](told.event)

    def show(self, told: FromTrial) -> None:
        """How many trials have ended, and what was heard last."""
        event = told.event
        if self.progress.done != len(self.ended):
            self.progress(len(self.ended))
        if isinstance(event, StepDone):
            self.progress.phase(f"trial {told.trial}: step {event.step}")
        elif isinstance(event, PhaseBegan) and event.name:
            self.progress.phase(f"trial {told.trial}: {event.name}")

    def add(self, trial: str, params: dict[str, Any]) -> None:
        """A trial begins: its run folder and its MLflow run."""
        config = trial_config(self.config, self.run.uri, trial, params)
        info = {"datasets": self.run.info.get("datasets", [])}
        run = Run(storage.join(self.run.uri, trial), config, self.preset_name, info)
        follower = Follower(run, self.parent.run_id, must_answer=False)
        metrics = RayMetrics(f"{self.run.name}/{trial}")
        self.trials[trial] = Trial(follower, TrialScreen(trial), metrics)
        say(f"trial {trial}: {', '.join(f'{k} {short(v)}' for k, v in params.items())}")

    def close(self, status: str) -> None:
        """End all MLflow runs."""
        for trial in self.trials.values():
            trial.close()
        self.parent.close(status)


def short(value: Any) -> str:
    """An option's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else shown_value(value)
