"""A trial of a sweep, in a process that Tune starts: a training with a run of its own."""

import logging
import time
from typing import Any

from apdist.config import Config, override
from apdist.data import storage
from apdist.data.storage.locks import this_machine
from apdist.training.cluster.ends import gist
from apdist.training.cluster.remote import RemoteLink
from apdist.training.cluster.trainer import build_trainer
from apdist.training.events import (
    Event,
    FromTrial,
    PhaseBegan,
    TrialEnded,
    TrialStarted,
    WorkersFailed,
    now_ms,
)
from apdist.training.job import Job
from apdist.training.run_folder.lease import held, holder_of
from apdist.training.run_folder.runs import (
    CONFIG_NAME,
    RUN_NAME,
    Run,
    create_run,
    open_run,
)
from apdist.training.sweeps.space import config_of

logger = logging.getLogger(__name__)

PREDECESSOR_S = 60.0
"""Ray ends the processes of a driver that was killed within this time."""


def run_trial(
    given: dict[str, Any], *, config: Config, preset_name: str, mailbox: Any, sweep: str
) -> dict[str, str]:
    """One training, from its start or from its last checkpoint.

    It raises nothing: what went wrong is told to the sweep, which knows what becomes of it.

    Args:
        given: name, params and seed of the trial.
        config: the options that all trials share.
        preset_name: what they start from.
        mailbox: the actor that hears of it.
        sweep: URI of the sweep's folder.

    Returns:
        Something: Tune prints a line about a trial that reports nothing.
    """
    from ray import tune

    link, failure = TrialLink(mailbox, given["trial"]), ""
    try:
        own = trial_config(config, sweep, given["trial"], given["params"], given["seed"])
        train_trial(own, preset_name, link, given["params"])
    except Exception as error:  # of whatever kind: the other trials go on
        logger.warning("trial %s failed", given["trial"], exc_info=True)
        failure = gist(error)
    # After the lease was given back: the next attempt takes it.
    link.post(TrialEnded(attempt=str(tune.get_context().get_trial_id()), failure=failure))
    return {"failure": failure or "none"}


def train_trial(config: Config, preset_name: str, link: "TrialLink", params: Any) -> None:
    """Train the run of ``config``, which may have begun."""
    from apdist.training.worker import train

    run, resumed = opened_run(config, preset_name)
    wait_for_predecessor(run)
    with held(run.uri, logger.warning) as lease:
        if resumed is not None:
            storage.remove_unfinished(run.uri)
        link.post(TrialStarted(params=params, lease=lease.number))
        if not run.is_complete:
            job = Job(run.config, run.uri, lease, resumed, is_trial=True)
            trainer: Any = build_trainer(job, link, train)
            trainer.occupied = link.occupied
            trainer.fit()


def wait_for_predecessor(run: Run) -> None:
    """Let the process go that trained ``run`` for a driver, or an attempt, which is killed."""
    deadline = time.monotonic() + PREDECESSOR_S
    while (holder := holder_of(run.uri)) is not None and holder.machine == this_machine():
        if time.monotonic() > deadline:
            return  # and be refused
        time.sleep(0.5)


def opened_run(config: Config, preset_name: str) -> tuple[Run, WorkersFailed | None]:
    """The run of a trial, and how it ended where it had begun."""
    uri = storage.join(config.run.output, config.run.name)
    if not storage.exists(storage.join(uri, CONFIG_NAME)):
        return create_run(config, preset_name), None
    if not storage.exists(storage.join(uri, RUN_NAME)):  # its process was killed in between
        Run(uri, config, preset_name).save_info()
    run = open_run(uri)
    last_ms = run.history[-1].time_ms if run.history else now_ms()
    return run, WorkersFailed(ranks=[], cause="resumed", time_ms=last_ms)


def trial_config(
    config: Config, sweep: str, name: str, params: dict[str, Any], seed: int
) -> Config:
    """The options of a trial: those of ``params`` that its loss has."""
    own = {"run.output": sweep, "run.name": name, "training.seed": seed}
    return override(config_of(config, params), own)


class TrialLink(RemoteLink):
    """Events of one trial in the sweep's mailbox."""

    def post(self, event: Event) -> None:
        """Send with the trial's name."""
        self.send(FromTrial(trial=self.trial, event=event))

    def occupied(self, group: Any) -> None:
        """Tell what the workers will occupy; the sweep frees it if this process is killed."""
        event = PhaseBegan(name="starting the workers", time_ms=now_ms())
        self.send(FromTrial(trial=self.trial, event=event, placement_group=group))

    def failures(self) -> list[WorkersFailed]:
        """Those of this trial."""
        return [
            posted.event
            for posted in self.posted_failures()
            if posted.trial == self.trial and isinstance(posted.event, WorkersFailed)
        ]
