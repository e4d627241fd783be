"""What the driver keeps of a run: its history and MLflow, both once and to the end."""

import logging
import tempfile
import uuid
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial
from operator import methodcaller
from pathlib import Path

from apdist.addresses import without_secrets
from apdist.config import flatten
from apdist.data import storage
from apdist.training.events import (
    ChunksResized,
    Ended,
    Evaluated,
    Event,
    MachineSampled,
    Noticed,
    Restarted,
    SetMeasured,
    Started,
    StepDone,
    now_ms,
)
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.run_folder.lease import LeaseLost, holder_of
from apdist.training.run_folder.runs import Run
from apdist.training.tracking import names
from apdist.training.tracking.artifacts import send_config, send_model
from apdist.training.tracking.database import remove_if_unused
from apdist.training.tracking.description import GALLERY, described, small_picture
from apdist.training.tracking.surroundings import surroundings
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
        by_hand: likewise.

    Raises:
        ValueError: the tracking store of a new run cannot be opened.
    """

    def __init__(
        self, run: Run, parent_id: str = "", must_answer: bool = True, by_hand: bool = False
    ) -> None:
        self.run, config, self.num_hosts = run, run.config, 1
        store = without_secrets(f"{config.tracking.uri} {config.tracking.experiment}")
        if run.info.get("tracking_store") != store:  # also of a run that changes its store
            run.info |= {"tracking_run_id": "", "tracking_identity": uuid.uuid4().hex}
        # Of the command that began it, whoever sends it and when.
        run.info.setdefault("surroundings", surroundings())
        run.info.setdefault("tracking_began_ms", now_ms())
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
            by_hand=by_hand,
        )
        if run_id:
            self.tracker.reopen()
        self._begin()
        self._remember(RUNNING)

    def _begin(self) -> None:
        """Tell what the run is; of one that goes on what was not told."""
        run = self.run
        tags = {**run.info["surroundings"], "apdist.run": run.uri}
        if parent := run.info.get("parent"):
            tags["apdist.parent"] = str(parent)
        params = {**flatten(run.config), "preset": run.preset}
        self.tracker.begin(params, tags, run.info.get("datasets", ()))
        self.tracker.log_file(partial(send_config, run))

    def __call__(self, event: Event) -> None:
        """Keep and track an event."""
        if not self.run.record(event):
            return
        if isinstance(event, Started | ChunksResized):
            self.tracker.set_tag("apdist.chunk_size", str(event.chunk_size))
        if isinstance(event, Started):  # fills up what is missing, and passes over the rest
            self.num_hosts = len(set(event.hosts))
            self.tracker.set_tag("apdist.activations", event.activations)
            self.track(self.run.history)
        elif isinstance(event, MachineSampled):
            self._track_machine(event)
        elif isinstance(event, HistoryEvent):
            self.track([event])
        if self.tracker.run_id != self.run.info.get("tracking_run_id"):
            self._remember(RUNNING)

    def track(self, events: Iterable[HistoryEvent]) -> None:
        """Log the figures of ``events``."""
        for event in events:
            if figures := self._named(event):
                self.tracker.log_metrics(figures, event.step, event.time_ms)
            elif isinstance(event, Noticed):
                told = f"step {event.step}: {event.text}"
                self.tracker.set_tag(f"apdist.notice.{event.topic}", told)
            elif isinstance(event, Restarted):
                self.tracker.set_tag(f"apdist.restart.{event.happened_ms}", str(event))

    def _named(self, event: HistoryEvent) -> dict[str, float]:
        """The figures of ``event``, as they are called in MLflow."""
        if isinstance(event, StepDone):
            return names.of_step(event)
        if isinstance(event, Evaluated):
            return names.of_evaluation(event, self.run.config.data.eval_split)
        return names.of_set(event) if isinstance(event, SetMeasured) else {}

    def _track_machine(self, event: MachineSampled) -> None:
        """Log how busy a machine is: by the seconds of the run, for steps take as long as they do.

        It is not kept in the history: what a store never hears of it is lost.
        """
        figures = names.of_machine(event, self.num_hosts > 1)
        seconds = max(0, event.time_ms - int(self.run.info["tracking_began_ms"])) // 1000
        self.tracker.log_metrics(figures, seconds, event.time_ms)

    def close(self, status: str, end_ms: int = 0) -> bool:
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
            self._finish()
            complete = self.tracker.close(status, end_ms)
            self._remember(status if complete else RUNNING)
        return complete and not self.tracker.lacks_files

    def _finish(self) -> None:
        """Tell what came of the run."""
        self.tracker.describe(described(self.run))
        if self.run.of_kind(Ended):
            self.tracker.log_file(partial(send_model, self.run))

    def _remember(self, tracked: str) -> None:
        try:
            self.run.save_info(tracking_run_id=self.tracker.run_id, tracked=tracked)
        except (OSError, LeaseLost) as error:
            logger.warning("run.json was not written (%s)", error)


def log_report(run: Run, page: Path, gallery: Path) -> None:
    """Put a report beside what MLflow has of a run, whatever state the run is in.

    Args:
        run: the run.
        page: the report.
        gallery: a picture of ranked queries, for the description.
    """
    config, run_id = run.config.tracking, str(run.info.get("tracking_run_id", ""))
    if config.enabled and run_id:
        tracker = Tracker(config, run.name, run_id=run_id)
        with tempfile.TemporaryDirectory() as folder:
            small_picture(gallery, picture := Path(folder, GALLERY))
            for path in (page, picture):
                tracker.log_file(methodcaller("log_file", path))
            tracker.log_file(methodcaller("describe", described(run), has_gallery=True))
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


def settle(run: Run, by_hand: bool = False) -> bool:
    """Send MLflow what it lacks of a run that nobody trains, and how it ended; whether it could.

    Raises:
        GoneError: a person asks for this alone, and the run was taken away there.
    """
    how = "FINISHED" if run.of_kind(Ended) else str(run.info.get("ended") or "KILLED")
    follower = Follower(run, by_hand=by_hand)
    follower.track(run.history)
    # It has lasted until then, not until somebody sent the rest.
    return follower.close(how, run.history[-1].time_ms if run.history else 0)
