"""What the driver keeps of a run: its history and MLflow, both once and to the end."""

import logging
import uuid
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from apdist.config import flatten
from apdist.data import storage
from apdist.training.events import (
    ChunksResized,
    Ended,
    Evaluated,
    Event,
    Noticed,
    Restarted,
    SetMeasured,
    Started,
    StepDone,
)
from apdist.training.run_folder.history import Kept
from apdist.training.run_folder.lease import LeaseLost, holder_of
from apdist.training.run_folder.runs import Run
from apdist.training.tracking.database import remove_if_unused
from apdist.training.tracking.tracker import Tracker

logger = logging.getLogger(__name__)

RUNNING = "RUNNING"
LAST_WORDS_S = 5.0
"""Longest that storage is tried for what a failed run still has to tell."""


class Follower:
    """Hands what the workers of a run tell to its history and to MLflow; a listener of `watch`.

    Args:
        run: open, and this process's own.
        parent_id: MLflow's run of the sweep that it is a trial of, or empty.
        must_answer: see `Tracker`.

    Raises:
        ValueError: the tracking store of a new run cannot be opened.
    """

    def __init__(self, run: Run, parent_id: str = "", must_answer: bool = True) -> None:
        self.run, config = run, run.config
        store = f"{config.tracking.uri} {config.tracking.experiment}"
        if run.info.get("tracking_store") != store:  # also of a run that changes its store
            run.info |= {"tracking_run_id": "", "tracking_identity": uuid.uuid4().hex}
        # Before the first request: one whose answer nobody got is found again by the identity.
        run.save_info(tracking_store=store, tracked=RUNNING, ended="")
        run_id = str(run.info["tracking_run_id"])
        self.tracker = Tracker(
            config.tracking,
            run.name,
            run_id=run_id,
            parent_id=parent_id,
            identity=str(run.info["tracking_identity"]),
            must_answer=must_answer,
            may_send=run.lease.is_fresh if run.lease else lambda: True,
        )
        if run_id:
            self.tracker.reopen()
        else:
            self.tracker.log_params({**flatten(config), "preset": run.preset})
            self.tracker.set_tag("apdist.run", run.uri)
            if parent := run.info.get("parent"):
                self.tracker.set_tag("apdist.parent", str(parent))
        self._remember(RUNNING)

    def __call__(self, event: Event) -> None:
        """Keep and track an event."""
        if not self.run.record(event):
            return
        if isinstance(event, Started | ChunksResized):
            self.tracker.set_tag("apdist.chunk_size", str(event.chunk_size))
        if isinstance(event, Started):  # fills up what is missing, and passes over the rest
            self.tracker.set_tag("apdist.activations", event.activations)
            self.track(self.run.history)
        elif isinstance(event, Kept):
            self.track([event])
        if self.tracker.run_id != self.run.info.get("tracking_run_id"):
            self._remember(RUNNING)

    def track(self, events: Iterable[Kept]) -> None:
        """Log the figures of ``events``."""
        for event in events:
            if isinstance(event, StepDone):
                self.tracker.log_metrics(event.figures, event.step, event.time_ms)
            elif isinstance(event, Evaluated):
                figures = event.figures | {"seconds": event.seconds, "step": event.step}
                kind = "eval" if event.split == self.run.config.data.eval_split else "validation"
                named = {f"{kind}_{key}": value for key, value in figures.items()}
                self.tracker.log_metrics(named, event.step, event.time_ms)
            elif isinstance(event, SetMeasured):
                figures = event.figures | {"seconds": event.seconds}
                named = {f"set/{event.name}/{key}": value for key, value in figures.items()}
                self.tracker.log_metrics(named, event.step, event.time_ms)
            elif isinstance(event, Noticed):
                told = f"step {event.step}: {event.text}"
                self.tracker.set_tag(f"apdist.notice.{event.topic}", told)
            elif isinstance(event, Restarted):
                self.tracker.set_tag(f"apdist.restart.{event.happened_ms}", str(event))

    def close(self, status: str) -> bool:
        """End the run with ``status`` where all has arrived; whether it has. Never raises.

        A run that another process has taken over is that one's to end.
        """
        if self.run.lease and self.run.lease.is_lost_for_good():
            return True
        # After a failure the storage may be what is away, and was waited for long enough.
        with storage.at_most(LAST_WORDS_S) if status == "FAILED" else nullcontext():
            try:
                self.run.catch_up()
            except (OSError, LeaseLost) as error:  # what ended the run is the news
                logger.warning("metrics.jsonl is behind the checkpoints (%s)", error)
            self.run.info["ended"] = status
            complete = self.tracker.close(status)
            self._remember(status if complete else RUNNING)
        return complete

    def _remember(self, tracked: str) -> None:
        try:
            self.run.save_info(tracking_run_id=self.tracker.run_id, tracked=tracked)
        except (OSError, LeaseLost) as error:
            logger.warning("run.json was not written (%s)", error)


def log_file(run: Run, path: Path) -> None:
    """Put a file beside what MLflow has of a run, whatever state the run is in."""
    config, run_id = run.config.tracking, str(run.info.get("tracking_run_id", ""))
    if config.enabled and run_id:
        tracker = Tracker(config, run.name, run_id=run_id)
        tracker.log_file(path)
        tracker.close(status="")


def forget(run: Run) -> None:
    """Take a run that was refused out of MLflow."""
    config, run_id = run.config.tracking, str(run.info.get("tracking_run_id", ""))
    if config.enabled and run_id:
        tracker = Tracker(config, run.name, run_id=run_id)
        tracker.delete()
        tracker.close(status="")
        remove_if_unused(config.uri, run_id, config.experiment)


def is_unsettled(run: Run) -> bool:
    """Whether MLflow may lack something of a run that nobody trains now."""
    if not run.config.tracking.enabled or run.info.get("tracked") != RUNNING:
        return False
    return holder_of(run.uri) is None


def settle(run: Run) -> bool:
    """Send MLflow what it lacks of a run that nobody trains, and how it ended; whether it could."""
    how = "FINISHED" if run.of_kind(Ended) else str(run.info.get("ended") or "KILLED")
    follower = Follower(run)
    follower.track(run.history)
    return follower.close(how)
