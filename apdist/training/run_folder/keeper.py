"""What a worker keeps of a run: events and checkpoints, written by worker 0 alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from apdist.training.events import (
    CheckpointWritten,
    Event,
    PhaseBegan,
    Restarted,
    WorkersFailed,
    now_ms,
)
from apdist.training.mailbox import Link
from apdist.training.regrouping import within_an_hour
from apdist.training.run_folder.checkpoint import (
    Marker,
    SoundCheckpoint,
    StatePart,
    load_state,
    newest_sound,
    sound,
    whole_state,
)
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.run_folder.kept_weights import packed, read_weights
from apdist.training.run_folder.lease import Lease
from apdist.training.run_folder.pages import Recorder, read_pages
from apdist.training.run_folder.saver import Saver
from apdist.training.step.collectives import Workers


@dataclass(frozen=True)
class CheckpointOrigin:
    """What the checkpoints of a run belong to; see `Marker` for the two hashes."""

    config_hash: str
    data_hash: str


class Keeper:
    """Restores a run on every worker; worker 0 writes its folder and reports to the driver.

    Args:
        run: URI of the run's folder.
        lease: by which the driver holds the run; None: nobody else can know of it.
        link: to the driver.
        workers: all of them; worker 0 writes and talks.
        keep: newest checkpoints that are kept.
    """

    def __init__(
        self, run: str, lease: Lease | None, link: Link, workers: Workers, keep: int
    ) -> None:
        self.run, self.lease, self.link, self.workers, self.keep = run, lease, link, workers, keep
        self.history: list[HistoryEvent] = []
        """Up to the checkpoint that was gone on from; on worker 0."""
        self.pages: tuple[str, ...] = ()
        self._saver: Saver | None = None
        self._saved_step = -1

    def restore(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        origin: CheckpointOrigin,
        device: torch.device,
        parts: Mapping[str, StatePart] | None = None,
    ) -> int:
        """Go on from the newest sound checkpoint; returns the steps done. All must call it.

        Raises:
            ValueError: no checkpoint is sound, or it is of other options or images.
        """
        found = self._chosen(device)
        if found is not None:
            load_state(found, network, optimizer, **vars(origin), parts=parts)
            self.pages, self._saved_step = found.marker.history, found.marker.step
        if self.workers.rank == 0:
            self.history = read_pages(self.run, self.pages)
            recorder = Recorder(self.run, self.pages)
            self._saver = Saver(
                self.run,
                recorder,
                keep=self.keep,
                writer=self.lease.number if self.lease else 0,
                may_write=self.refuse_if_lost,
                done=self._written,
            )
            if found is not None:
                self._saver.last, self._saver.weights = found.marker, found.marker.weights
        return 0 if found is None else found.marker.step

    def _chosen(self, device: torch.device) -> SoundCheckpoint | None:
        """The checkpoint that worker 0 chose, on every worker."""
        found, text = None, ""
        if self.workers.rank == 0:
            try:
                found = newest_sound(self.run)
                text = f"{found.marker.writer} {found.uri}" if found else ""
            except ValueError as error:  # all have to raise, or the others wait for ever
                text = f"!{error}"
        told = self.workers.gather_texts(text, device)[0]
        if told.startswith("!"):
            raise ValueError(told[1:])
        if found or not told:
            return found
        writer, _, uri = told.partition(" ")
        return sound(self.run, uri, int(writer))

    def post(self, event: Event) -> None:
        """Tell the driver, and keep what belongs to the history; from worker 0."""
        if self.workers.rank != 0:
            return
        if isinstance(event, HistoryEvent):
            event = replace(event, time_ms=now_ms())
            assert self._saver is not None, "restore comes first"
            self._saver.recorder.add(event)
        self.link.post(event)

    def begin(self, phase: str) -> None:
        """Tell what goes on now; an empty text: the steps."""
        self.post(PhaseBegan(name=phase, time_ms=now_ms()))

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Tell what goes on inside the block."""
        self.begin(phase)
        yield
        self.begin("")

    def save(
        self,
        step: int,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        origin: CheckpointOrigin,
        parts: Mapping[str, StatePart] | None = None,
    ) -> None:
        """Begin to write a checkpoint; waits for a copy of the state. All must call it."""
        with self.during("writing the checkpoint"):
            state = whole_state(network, optimizer, parts)
            if self._saver is not None:
                self._saver.save(state, Marker(step=step, **vars(origin)))
        self._saved_step = step

    def settle(self, device: torch.device) -> None:
        """Return when the checkpoint is written. All must call it, none of them may end before.

        Raises:
            OSError: it could not be written; on all workers.
        """
        text = ""
        if self._saver is not None:
            try:
                self._saver.wait()
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
        if told := self.workers.gather_texts(text, device)[0]:
            raise OSError(told)

    def is_saved(self, step: int) -> bool:
        """Whether the newest checkpoint is that after ``step`` steps."""
        return self._saved_step == step

    def save_history(self, step: int) -> None:
        """Store what was posted after the checkpoint of that step with it, if there is one.

        With an earlier one it would be there twice, in a run that goes on from that.
        """
        if self._saver is not None and self.is_saved(step):
            self._saver.save_history()

    def keep_weights(self, role: str, state: dict[str, Tensor]) -> str:
        """Begin to write weights that the run needs to its end; returns their name, on worker 0.

        Args:
            role: what they are for; those that had it before are deleted when no checkpoint needs
                them any more.
            state: whole tensors by name.
        """
        if self._saver is None:
            return ""
        name, content = packed(state)
        self._saver.keep_weights(role, name, content)
        return name

    def kept_weights(self, role: str, device: torch.device) -> dict[str, Tensor]:
        """What `keep_weights` was given; empty: nothing yet. All must call it.

        Raises:
            ValueError: its file is damaged, or gone.
        """
        name = ""
        if self._saver is not None:
            self._saver.wait()
            name = self._saver.weights.get(role, "")
        name = self.workers.gather_texts(name, device)[0]
        return read_weights(self.run, name) if name else {}

    @contextmanager
    def written_at_the_end(self) -> Iterator[None]:
        """Wait at the end of the block for what is being written.

        Raises:
            Exception: what kept it from being written, unless the block raises: that came first.
        """
        try:
            yield
        except BaseException:
            with suppress(Exception):
                self._wait()
            raise
        self._wait()

    def refuse_if_lost(self) -> None:
        """Return while this run is the driver's own.

        Raises:
            LeaseLost: another process has taken it.
        """
        if self.lease is not None:
            self.lease.refuse_if_lost()

    def _wait(self) -> None:
        if self._saver is not None:
            self.begin("writing the checkpoint")
            self._saver.wait()

    def _written(self, step: int, uri: str) -> None:
        self.link.post(CheckpointWritten(step=step, uri=uri))


def restarts(
    failures: Sequence[WorkersFailed],
    history: Sequence[HistoryEvent],
    step: int,
    per_hour: int,
    num_workers: int,
) -> list[Restarted]:
    """Those of ``failures`` that the history does not have, as what they led to.

    Args:
        failures: all since the driver began; one without ranks is a person's stop and resume.
        history: up to the checkpoint that is gone on from.
        step: of that checkpoint.
        per_hour: after more failures within an hour the run does not go on by itself.
        num_workers: that go on.
    """
    known = {event.happened_ms for event in history if isinstance(event, Restarted)}
    since_ms = history[-1].time_ms if history else 0
    new = []
    for number, failure in enumerate(failures, 1):
        if failure.time_ms not in known:
            after = failures[number] if number < len(failures) else None
            until_ms = after.time_ms if after else now_ms()
            if not failure.ranks and not failure.is_planned:
                until_ms = failure.time_ms  # stopped by a person: no work was lost meanwhile
            used = len(within_an_hour(failures[:number], failure.time_ms))
            new.append(
                Restarted(
                    step=step,
                    cause=str(failure),
                    happened_ms=failure.time_ms,
                    seconds_lost=(until_ms - (since_ms or failure.time_ms)) / 1000,
                    restarts_left=max(0, per_hour - used),
                    num_workers=after.num_workers if after and after.num_workers else num_workers,
                    num_before=failure.num_workers,
                )
            )
            since_ms = until_ms
    return new
