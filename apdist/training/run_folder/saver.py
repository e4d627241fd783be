"""Checkpoints written in the background: the loop waits for a copy in host memory, no longer."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from apdist.training.run_folder.checkpoint import (
    Marker,
    prune_checkpoints,
    save_checkpoint,
    write_marker,
)
from apdist.training.run_folder.kept_weights import write_weights
from apdist.training.run_folder.pages import Recorder, write_page

LONGEST_WRITE_S = 1800.0
"""A checkpoint that takes longer ends the run; storage gives up on each request much earlier."""


class Saver:
    """Writes the checkpoints of a run, one at a time, in the order they are given.

    Args:
        run: URI of the run's folder.
        recorder: of the history that is stored with each checkpoint.
        keep: newest checkpoints that are kept.
        writer: number of the lease that the run is written under.
        may_write: raises if this process is not the run's writer any more; asked before each
            checkpoint becomes valid.
        done: called in the writing thread with step and URI of each checkpoint.
    """

    def __init__(
        self,
        run: str,
        recorder: Recorder,
        keep: int,
        writer: int,
        may_write: Callable[[], None],
        done: Callable[[int, str], None],
    ) -> None:
        self.run, self.recorder, self.keep, self.writer = run, recorder, keep, writer
        self.may_write, self.done = may_write, done
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.last: Marker | None = None
        """Of the newest checkpoint."""
        self.weights: dict[str, str] = {}
        """Names of the weights that are kept beside it, by what they are for."""

    def save(self, state: dict[str, Any], marker: Marker) -> None:
        """Begin to write ``state``, which nobody may change any more.

        Raises:
            Exception: what kept the checkpoint before from being written.
        """
        self.wait()
        pages, content = self._cut()  # now: what comes later belongs to the next one
        marker = replace(marker, weights=dict(self.weights))
        self._begin(lambda: self._write(state, marker, pages, content))

    def keep_weights(self, role: str, name: str, content: bytes) -> None:
        """Begin to write weights that all checkpoints from now on need, in place of earlier ones.

        Args:
            role: what they are for.
            name: that their content has, see `kept_weights.packed`.
            content: of their file.
        """
        self.weights = self.weights | {role: name}
        self._begin(lambda: write_weights(self.run, name, content), after=self._thread)

    def save_history(self) -> None:
        """Store what has happened since the last checkpoint with it, once that is written.

        It must be of the same step: else a run that goes on there would have steps twice.
        """
        if self.last is None and self._thread is None:
            return
        pages, content = self._cut()
        weights = dict(self.weights)
        self._begin(lambda: self._append(pages, content, weights), after=self._thread)

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

    def _begin(self, write: Callable[[], None], after: threading.Thread | None = None) -> None:
        self._thread = threading.Thread(
            target=self._attempt, args=(write, after), name="checkpoint", daemon=True
        )
        self._thread.start()

    def _attempt(self, write: Callable[[], None], after: threading.Thread | None) -> None:
        if after is not None:
            after.join()
        if self._error is not None:
            return
        try:
            write()
        except BaseException as error:  # raised again where the loop waits
            self._error = error

    def _cut(self) -> tuple[tuple[str, ...], bytes]:
        pages, content = self.recorder.cut()
        return tuple(pages), content

    def _write(
        self, state: dict[str, Any], marker: Marker, pages: tuple[str, ...], content: bytes
    ) -> None:
        if content:
            write_page(self.run, pages[-1], content)
        marker = replace(marker, history=pages, writer=self.writer)
        uri, self.last = save_checkpoint(self.run, state, marker, self.may_write)
        self._prune(self.last)
        self.done(marker.step, uri)

    def _append(self, pages: tuple[str, ...], content: bytes, weights: dict[str, str]) -> None:
        assert self.last is not None, "the checkpoint before it was written"
        if pages == self.last.history:
            return
        if content:
            write_page(self.run, pages[-1], content)
        self.last = replace(self.last, history=pages, writer=self.writer, weights=weights)
        self.may_write()
        write_marker(self.run, self.last)
        self._prune(self.last)

    def _prune(self, newest: Marker) -> None:
        # The driver was told of the pages that this began with, and may not have read them yet.
        prune_checkpoints(self.run, newest, self.keep, pages=self.recorder.begun)
