"""Checkpoints written in the background: the loop waits for a copy in host memory, no longer."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from apdist.training.run_folder.checkpoint import Marker, prune_checkpoints, save_checkpoint
from apdist.training.run_folder.history import Recorder, write_page

logger = logging.getLogger(__name__)

LONGEST_WRITE_S = 1800.0
"""A checkpoint that takes longer ends the run; storage gives up on each request much earlier."""


class Saver:
    """Writes the checkpoints of a run, one at a time, in the order they are given.

    Args:
        run: URI of the run's folder.
        recorder: of the history that is stored with each checkpoint.
        keep: newest checkpoints that are kept.
        may_write: raises if this process is not the run's writer any more; asked before each
            checkpoint becomes valid.
        done: called in the writing thread with step and URI of each checkpoint.
    """

    def __init__(
        self,
        run: str,
        recorder: Recorder,
        keep: int,
        may_write: Callable[[], None],
        done: Callable[[int, str], None],
    ) -> None:
        self.run, self.recorder, self.keep = run, recorder, keep
        self.may_write, self.done = may_write, done
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, state: dict[str, Any], marker: Marker) -> None:
        """Begin to write ``state``, which nobody may change any more.

        Raises:
            Exception: what kept the checkpoint before from being written.
        """
        self.wait()
        pages, content = self.recorder.cut()
        marker = replace(marker, history=tuple(pages))
        self._thread = threading.Thread(
            target=self._write, args=(state, marker, content), name="checkpoint", daemon=True
        )
        self._thread.start()

    def wait(self) -> None:
        """Until the checkpoint under way is written.

        Raises:
            Exception: what kept it from being written.
        """
        if self._thread is None:
            return
        self._thread.join(LONGEST_WRITE_S)
        if self._thread.is_alive():
            raise OSError(f"a checkpoint of {self.run} was not written in {LONGEST_WRITE_S:.0f} s")
        self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, state: dict[str, Any], marker: Marker, content: bytes) -> None:
        try:
            if content:
                write_page(self.run, marker.history[-1], content)
            uri = save_checkpoint(self.run, state, marker, self.may_write)
            prune_checkpoints(self.run, self.keep)
            self.done(marker.step, uri)
        except BaseException as error:
            self._error = error
