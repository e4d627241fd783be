"""What the driver logs to MLflow, from a background thread and in order.

Tracking never costs a training: while the store is away everything waits, and is sent when it
answers again, at the end, by a resume or by `apdist track RUN`. A run is ended only after all of
it has arrived, so FINISHED means that nothing is missing.
"""

import logging
import shlex
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import Any

from apdist.addresses import without_any, without_secrets
from apdist.config import TrackingConfig
from apdist.training.tracking.mlflow_run import (
    IDENTITY,
    About,
    GoneError,
    MlflowRun,
    Point,
    RunGoneError,
    is_server,
)

logger = logging.getLogger(__name__)

FLUSH_S = 2.0
LONGEST_PAUSE_S = 60.0
CLOSE_TIMEOUT_S = 30.0
FILES_TIMEOUT_S = 300.0
"""Likewise, for files where only they are missing: the model may be large and the line slow."""

LOCAL_UI = "http://127.0.0.1:5000"
"""Where `mlflow ui` answers."""

_OF_WHAT_IS_GONE = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")
"""What MLflow calls an error where a run, or its experiment, is deleted or unknown."""

Entry = Point | Callable[[MlflowRun], None]


class Tracker:
    """A run of MLflow that is written in the background.

    Args:
        config: store and experiment.
        name: name of the run.
        run_id: an existing run to go on with; empty: a new one.
        parent_id: the run of the sweep that this is a trial of, or empty.
        identity: by which a run is found again whose making was not answered; empty: a new one.
        must_answer: raise where a new run's store cannot be opened at all; a server that is only
            away is waited for in the background whatever this says.
        may_send: whether this process may write the run now; what it may not send waits.
        by_hand: a person asks for this alone, no training: what was taken away there is refused.

    Raises:
        ValueError: the store cannot be opened; a wrong one should not wait for the end.
        GoneError: the run was taken away there, and a person asks for it.
    """

    def __init__(
        self,
        config: TrackingConfig,
        name: str,
        *,
        run_id: str = "",
        parent_id: str = "",
        identity: str = "",
        must_answer: bool = True,
        may_send: Callable[[], bool] = lambda: True,
        by_hand: bool = False,
    ) -> None:
        self.config, self.name, self.run_id = config, name, run_id
        self.may_send, self.by_hand = may_send, by_hand
        self._tags = {IDENTITY: identity or uuid.uuid4().hex}
        if parent_id:
            self._tags["mlflow.parentRunId"] = parent_id
        self._run: MlflowRun | None = None
        self._entries: deque[Entry] = deque()
        self._files: deque[Callable[[MlflowRun], None]] = deque()
        self._files_failed = False
        self._news = threading.Event()
        self._closing = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        if config.enabled:
            self._open(refuse=must_answer and not run_id and not is_server(config.uri))
            self._thread.start()

    def begin(
        self,
        params: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
        datasets: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Log options and where a run comes from, as far as they are not there.

        Addresses are without passwords and queries, for all see them there.
        """
        about = About(without_any(dict(params)), without_any(dict(tags or {})), datasets)
        self._add(lambda run: run.begin(about))

    def log_metrics(self, metrics: Mapping[str, float], step: int, time_ms: int) -> None:
        """Log the figures of an event; a step that is there already is passed over."""
        if metrics:
            self._add(Point(metrics, step, time_ms))

    def log_file(self, send: Callable[[MlflowRun], None]) -> None:
        """Upload a file beside the run when all else is there, by what ``send`` does."""
        if self.config.enabled:
            self._files.append(send)

    def describe(self, text: str) -> None:
        """Set the description, unless a person has written one."""
        self._add(lambda run: run.describe(text))

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the run."""
        self._add(lambda run: run.set_tag(name, value))

    def reopen(self) -> None:
        """Say that a run that had ended goes on."""
        self._add(lambda run: run.reopen())

    def delete(self) -> None:
        """Take the run away again."""
        self._add(lambda run: run.delete())

    def close(self, status: str = "FINISHED", end_ms: int = 0) -> bool:
        """End the run with ``status`` once all has arrived but files; whether it has, in time.

        An empty status leaves it as it is. ``end_ms`` is when it ended, since 1970; 0: now.
        """
        if not self.config.enabled:
            return True
        if status:
            self._add(lambda run: run.end(status, end_ms))
        self._closing.set()
        self._news.set()
        self._thread.join(CLOSE_TIMEOUT_S)
        if not self._entries:  # the model is on its way
            self._thread.join(FILES_TIMEOUT_S)
        return not self._entries

    @property
    def lacks_files(self) -> bool:
        """Whether a file could not be uploaded; that keeps no figure waiting, and no end."""
        return bool(self._files)

    def where(self) -> str:
        """How a person opens this run; its page is in the part of MLflow for trained models.

        MLflow's pages begin in the part for language models, unless the address or the switch at
        the top left of them says otherwise.
        """
        if not self.config.uri.startswith("sqlite:"):
            return f"{without_secrets(self.config.uri).rstrip('/')}{self._page()}"
        command = f"mlflow ui --backend-store-uri {shlex.quote(self.config.uri)}"
        return f"{command}, then {LOCAL_UI}{self._page()}"

    def _page(self) -> str:
        if self._run is None or not self._run.experiment_id:
            return f" (run {self.name})"
        run = f"/#/experiments/{self._run.experiment_id}/runs/{self.run_id}"
        return f"{run}?workflowType=machine_learning"

    def _add(self, entry: Entry) -> None:
        if self.config.enabled:
            self._entries.append(entry)

    def _work(self) -> None:
        """Send until closed and empty; after a failure wait, longer each time."""
        pause_s = FLUSH_S
        while True:
            self._news.wait(pause_s)
            is_closing = self._closing.is_set()  # before: all that is added by then is sent
            failed = not self._send()
            if not failed and (is_closing or not self._files_failed):
                self._send_files(is_closing)
            if is_closing:
                return  # what was away until the end gets it from `apdist track`
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S) if failed else FLUSH_S

    def _send(self) -> bool:
        """Send all that waits and may be sent, in order; whether the store took it.

        Asked before each request: who was halted may wake to another writer between two. The
        request that was on its way then does arrive; MLflow cannot refuse it.
        """
        if not self._may_send_now():
            return True
        try:
            if self._run is None:
                self._open(refuse=False)
            while self._entries and self._run is not None and self._may_send_now():
                self._send_next(self._run)
        except Exception as error:
            self._warn(self._reason(error))
            return False
        self._warned = self._warned and self._run is None
        return self._run is not None

    def _may_send_now(self) -> bool:
        return self._closing.is_set() or self.may_send()

    def _send_files(self, is_closing: bool) -> None:
        """Upload what waits; after a failure only the end tries again.

        Where files lie is often another place than where figures do, with rights of its own.
        """
        try:
            while self._files and self._run is not None and (is_closing or self.may_send()):
                self._files[0](self._run)
                self._files.popleft()
        except Exception as error:
            self._files_failed = True
            logger.warning(
                "MLflow at %s does not take files (%s); its figures are not touched by that, and "
                "`apdist track` sends the files; where it is only slow, set "
                "MLFLOW_HTTP_REQUEST_TIMEOUT to more seconds",
                without_secrets(self.config.uri),
                without_secrets(_gist(error)),
            )

    def _send_next(self, run: MlflowRun) -> None:
        """Send the first entry, or all points at the front; what fails stays where it is.

        So do points that may not be sent any more when the store has said what is there.
        """
        first = self._entries[0]
        if isinstance(first, Point):
            points: list[Point] = []
            for entry in list(self._entries):
                if not isinstance(entry, Point):
                    break
                points.append(entry)
            run.find_steps(points)
            if not self._may_send_now():
                return
            run.log_points(points)
            for _ in points:
                self._entries.popleft()
        else:
            first(run)
            self._entries.popleft()

    def _open(self, refuse: bool) -> None:
        try:
            self._run = MlflowRun(self.config, self.name, self.run_id, self._tags)
            self.run_id = self._run.run_id
        except Exception as error:
            if self.by_hand and isinstance(error, GoneError):
                raise
            if refuse:
                without = "" if self.by_hand else ", or use --tracking.no-enabled"
                raise ValueError(
                    f"tracking.uri {without_secrets(self.config.uri)} cannot be opened "
                    f"({without_secrets(_gist(error))}); correct it, name another file if it is of "
                    f"another version or was made only in part{without}"
                ) from error
            self._warn(error)

    def _reason(self, error: Exception) -> Exception:
        """What a person has taken away, where it is that why the store takes nothing."""
        if self._run is not None and getattr(error, "error_code", "") in _OF_WHAT_IS_GONE:
            try:
                self._run.refuse_gone()
            except Exception as found:
                return found
        return error

    def _warn(self, error: Exception) -> None:
        if self._warned:
            return
        self._warned = True
        told = "MLflow at %s does not answer (%s); nothing waits for it, and what is missing there "
        told += "is sent when it answers"
        if isinstance(error, GoneError):
            told = "MLflow at %s takes nothing of this run, and nothing waits for it: %s"
            if isinstance(error, RunGoneError):
                told += ", or send it anew when it has ended: apdist track RUN --anew"
        logger.warning(told, without_secrets(self.config.uri), without_secrets(_gist(error)))


def _gist(error: Exception) -> str:
    """Why a connection failed, as the system says it, or what an error says first."""
    cause: BaseException | None = error
    reason = ""
    while cause is not None:
        if isinstance(cause, OSError) and not cause.filename:
            reason = cause.strerror or reason
        cause = cause.__cause__ or cause.__context__
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return reason or shorten(first, 300, placeholder=" ...")
