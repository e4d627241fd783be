"""A run from its folder to its end: made, trained, and what is said of it afterwards."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from apdist.config import Config
from apdist.data import storage
from apdist.training.events import WorkersFailed
from apdist.training.job import Job
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import Run, create_run
from apdist.training.tracking.following import Follower, forget
from apdist_verbs.start.checks import warn_of_no_effect
from apdist_verbs.start.data_check import check_data, used_data
from apdist_verbs.start.model_check import check_model
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.progress import phase, progress_bar
from apdist_verbs.terminal.screen import Screen


def new_run(config: Config, preset_name: str) -> Run:
    """Check data and network before anything starts, then make the run's folder.

    Raises:
        ValueError: a batch cannot be filled, a split is missing, the run exists.
    """
    say(check_data(config))
    if told := check_model(config):
        say(told)
    warn_of_no_effect(config)
    return create_run(config, preset_name)


@contextmanager
def discarded_if_refused(run: Run) -> Iterator[None]:
    """A new run that is refused before the training begins leaves nothing behind."""
    try:
        yield
    except (ValueError, OSError):
        if run.discard_if_untouched():
            forget(run)
        raise


def train_run(run: Run, resumed: WorkersFailed | None = None) -> int:
    """Train an opened run to its end, with progress, history and tracking.

    Args:
        run: new, or with what has happened so far.
        resumed: how it ended the last time, if this continues it; its options may be new.

    Returns:
        An exit code: 0 when it is complete, 130 when it was stopped and can be resumed.
    """
    from apdist.training.cluster.ends import Interrupted
    from apdist.training.cluster.launch import run_training
    from apdist.training.cluster.metrics import RayMetrics
    from apdist.training.cluster.noise import RAY_LOG_NAME
    from apdist.training.time_spent import time_spent
    from apdist_verbs.terminal.devices import say_if_idle

    with held(run.uri, say) as run.lease:
        if resumed is not None:
            storage.remove_unfinished(run.uri)
        with phase("opening MLflow" if run.config.tracking.enabled else "opening the run"):
            if run.config.tracking.enabled and "datasets" not in run.info:
                run.info["datasets"] = used_data(run.config)
            follower = Follower(run)
        say(f"run {run.uri}")
        say_if_idle(run.config.ray, "apdist train with --ray.num-workers")
        status = "FAILED"
        try:
            with progress_bar("training", run.config.training.steps) as progress:
                screen = Screen(progress)
                job = Job(run.config, run.uri, lease=run.lease, resumed=resumed)
                run_training(job, follower, screen, RayMetrics(run.name))
            status = "FINISHED"
        except Interrupted:
            status = "FINISHED" if run.is_complete else "KILLED"
            if not run.is_complete:  # else it came too late to stop anything
                again = f"apdist train --resume {shlex.quote(run.uri)}"
                say(f"stopped after step {run.steps_done}; go on with: {again}")
                return 130
        finally:
            with phase("sending the rest to MLflow"):
                is_complete = follower.close(status)
            if not is_complete:
                say(f"MLflow lacks a part of this run; later: apdist track {shlex.quote(run.uri)}")
    spent = time_spent(run.history)
    say(f"time: {spent}")
    say(f"advice: {spent.advice()}")
    say(f"model: {storage.join(run.uri, 'model.safetensors')}")
    if run.config.ray.num_workers:
        say(f"Ray's own output: {storage.join(run.uri, RAY_LOG_NAME)}")
    if run.config.tracking.enabled:
        say(f"curves: {follower.tracker.where()}")
    return 0


def told_next(run: Run, code: int) -> int:
    """Name the command to type next if the training has come to its end; returns its exit code."""
    if code == 0:
        say_next("measure it", "evaluate", "--run", near(run.uri))
    return code
