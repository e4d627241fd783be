"""Run the training loop on a Ray cluster, or in this process, and hear from it while it runs."""

import shlex
import traceback
from collections.abc import Callable, Sequence

from apdist.addresses import without_secrets
from apdist.data import storage
from apdist.training.cluster.background import Background
from apdist.training.cluster.ends import (
    Interrupted,
    TrainingError,
    gist,
    lost_cluster_explained,
    told_as_stop,
)
from apdist.training.cluster.failures import why_none_is_left
from apdist.training.cluster.joining import arrival, ray_cluster
from apdist.training.cluster.noise import RAY_LOG_NAME
from apdist.training.cluster.remote import Inbox, RemoteLink, remote_mailbox
from apdist.training.cluster.signals import counted_signals
from apdist.training.cluster.trainer import build_trainer
from apdist.training.cluster.watch import Listener, watch
from apdist.training.events import Event, Failed, PhaseBegan, Stopping, WorkersFailed, now_ms
from apdist.training.job import Job
from apdist.training.mailbox import Mailbox


def run_training(job: Job, *listeners: Listener[Event]) -> None:
    """Train, and call ``listeners`` in this thread for everything the workers tell.

    The first Ctrl-C or SIGTERM asks the workers for a checkpoint; a second one ends at once.

    Raises:
        Interrupted: stopped by a signal.
        ValueError: a worker met bad input.
        TrainingError: the workers failed too often.
    """
    trainer = Background("trainer")
    # From here on: a KeyboardInterrupt while Ray starts could be lost in a callback of a library.
    with counted_signals() as signals, told_as_stop(signals), trainer.ended():
        if job.config.ray.most_workers == 0:
            mailbox = Mailbox[Event]()
            with mailbox.cancelled_at_the_end():
                _train(job, trainer, mailbox, lambda _: mailbox.take(), listeners, signals)
            return
        _begin(arrival(job.config.ray), listeners)
        log = storage.join(job.run, RAY_LOG_NAME)
        remedy = f"{_going_on(job)}; Ray's own output is in {log}"
        with ray_cluster(job.config.ray, log), lost_cluster_explained(remedy):
            if signals:  # while Ray started: there is nothing yet to write a checkpoint of
                raise Interrupted
            _begin("starting the workers", listeners)
            actor = remote_mailbox()
            _train(job, trainer, RemoteLink(actor), Inbox(actor), listeners, signals)


def _begin(phase: str, listeners: Sequence[Listener[Event]]) -> None:
    event = PhaseBegan(name=phase, time_ms=now_ms())
    for listener in listeners:
        listener(event)


def _train(
    job: Job,
    trainer: Background,
    link: Mailbox[Event] | RemoteLink,
    take: Callable[[bool], list[Event]],
    listeners: Sequence[Listener[Event]],
    signals: list[int],
) -> None:
    """Run the trainer and watch it to its end."""

    def on_signal(number: int) -> None:
        if number > 1:
            raise KeyboardInterrupt
        link.request_stop()
        for listener in listeners:
            listener(Stopping())

    failed: list[WorkersFailed] = []

    def remember(event: Event) -> None:
        if isinstance(event, WorkersFailed):
            failed.append(event)

    from apdist.training.worker import train

    trainer.start(lambda: build_trainer(job, link, train).fit())
    watch(trainer, take, [_raise_failure, remember, *listeners], signals, on_signal)
    try:
        trainer.result()
    except BaseException as error:
        _explain_failure(job, error, failed)
    if signals:
        raise Interrupted


def _raise_failure(event: Event) -> None:
    if isinstance(event, Failed):
        raise ValueError(event.text)


def _explain_failure(job: Job, error: BaseException, failed: Sequence[WorkersFailed] = ()) -> None:
    if isinstance(error, ValueError | OSError):
        raise error
    log = storage.join(job.run, "error.log")
    where = f"the whole report is in {log}"
    if job.config.ray.num_workers:
        where += f", what the workers wrote in {storage.join(job.run, RAY_LOG_NAME)}"
    try:
        report = without_secrets("".join(traceback.format_exception(error)))
        storage.write_bytes(log, report.encode(errors="backslashreplace"))
    except OSError as second:  # the first one is the cause
        where = f"the report could not be written ({second})"
    why = why_none_is_left(failed, job.config.ray.restarts_per_hour) or gist(error)
    raise TrainingError(f"training failed: {why}; {where}; {_going_on(job)}") from error


def _going_on(job: Job) -> str:
    return f"`apdist train --resume {shlex.quote(job.run)}` goes on from the last checkpoint"
