"""A sweep's decisions: which trial starts next, which is stopped, what becomes of one that ended.

It knows neither Ray nor MLflow. Whoever runs the trials asks it, and tells it what they came to.
"""

import dataclasses
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from apdist.config import Config
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.ranking import Objective, by_setting
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.schedulers import curve, verdict
from apdist.training.sweeps.searchers import Params, Told, draw
from apdist.training.sweeps.space import config_of
from apdist.training.sweeps.state import SweepState
from apdist.training.sweeps.words import name_of

ATTEMPTS = 2
"""Failures after which a trial has failed."""
OVER = ("stopped", "finished", "failed")


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep is to try; the same after it is resumed, but for the number of settings."""

    name: str
    searcher: str
    scheduler: str
    settings: int
    """Number of settings to be drawn."""
    repeats: int
    objectives: tuple[Objective, ...]
    starting: tuple[Params, ...] = ()
    """Settings of earlier runs, which are tried first."""
    test_best: int = 3
    """Settings that are measured on the test split at the end."""
    max_concurrent: int = 0
    """Most trials at a time; 0: as many as there is room for."""


class Driver:
    """Decides about the trials of a sweep; safe to use from several threads.

    Args:
        plan: what is to be tried.
        dimensions: the space.
        config: the options that all trials share.
        state: what there is of the sweep; trials that were running wait to be gone on with.
        check: raises ValueError where a trial with these options cannot be.
    """

    def __init__(
        self,
        plan: SweepPlan,
        dimensions: Sequence[Dimension],
        config: Config,
        state: SweepState,
        check: Callable[[Config], None],
    ) -> None:
        self.plan, self.dimensions, self.config = plan, dimensions, config
        self.state, self.check = state, check
        self.is_exhausted = False
        """Whether the space has no other setting."""
        self.closing = ""
        """Why no other trial starts; empty: they do."""
        self._lock = threading.RLock()
        for record in state.records:
            if record.state == "running":  # when the driver before ended
                self._change(record, state="stopped" if record.reason else "waiting")

    @property
    def records(self) -> list[TrialRecord]:
        """Of all trials so far."""
        return self.state.records

    @property
    def num_over(self) -> int:
        """How many trials have come to an end."""
        return sum(record.state in OVER for record in self.records)

    @property
    def running(self) -> list[TrialRecord]:
        """Those that run now."""
        return [record for record in self.records if record.state == "running"]

    def repeats_of(self, record: TrialRecord) -> list[TrialRecord]:
        """The other trials with its setting."""
        return [
            other
            for other in self.records
            if other.setting == record.setting and other.number != record.number
        ]

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to start."""
        drawn = self.is_exhausted or len(by_setting(self.records)) >= self.plan.settings
        waiting = any(record.state == "waiting" for record in self.records)
        return bool(self.closing) or (drawn and not waiting)

    def next(self) -> TrialRecord | None:
        """The trial to start now: one to go on with, else a new one; None where none is left."""
        with self._lock:
            while not self.is_done:
                waiting = [record for record in self.records if record.state == "waiting"]
                if waiting:
                    return self._change(waiting[0], state="running")
                self._draw()
            return None

    def put_back(self, name: str) -> TrialRecord:
        """A trial was ended by a person: it waits to be gone on with."""
        with self._lock:
            return self._change(self.state.named(name), state="waiting")

    def evaluated(self, name: str, step: int, figures: dict[str, float]) -> str:
        """Note what a trial was measured at; why it is stopped, in a line, or nothing."""
        with self._lock:
            record = self.state.named(name)
            before = [point for point in record.curve if point[0] < step]
            record = self._change(record, curve=[*before, (step, figures)])
            if record.state != "running" or record.reason:
                return ""
            reason = self._verdict(record)
            if reason:
                self._change(record, reason=reason)
            return reason

    def _verdict(self, record: TrialRecord) -> str:
        first = self.plan.objectives[0]
        curves = [
            (other, curve(other, first.figure, first.sign))
            for other in self.records
            if other.repeat == record.repeat
        ]
        own = next(found for other, found in curves if other.number == record.number)
        others = [found for other, found in curves if other.number != record.number]
        steps, grace = self.config.training.steps, self.config.evaluation.every_steps
        reason = verdict(self.plan.scheduler, own, others, min(grace, steps), steps)
        if reason and self.plan.repeats > 1:
            return f"{reason}; of those of seed {record.seed}"
        return reason

    def finished(self, name: str, seconds: float, chosen: dict[str, float]) -> TrialRecord:
        """A trial has come to its end, whatever was decided about it meanwhile."""
        return self._over(name, seconds, state="finished", reason="", chosen=chosen)

    def stopped(self, name: str, seconds: float) -> TrialRecord:
        """A trial has ended because it was asked to; with it end repeats that have not begun."""
        with self._lock:
            record = self.state.named(name)
            reason = record.reason or self.closing
            record = self._over(name, seconds, state="stopped", reason=reason)
            self._leave_out(record, f"{record.name}, with the same setting, was stopped")
            return record

    def failed(self, name: str, seconds: float, reason: str) -> TrialRecord:
        """A trial has failed; it waits to be tried again, once."""
        with self._lock:
            record = self.state.named(name)
            if record.reason:  # it was to stop, and would not be tried any more
                return self.stopped(name, seconds)
            attempts = record.attempts + 1
            state = "failed" if attempts >= ATTEMPTS else "waiting"
            record = self._over(name, seconds, state=state, reason=reason, attempts=attempts)
            if state == "waiting":  # the reason is not that of an end
                return self._change(record, reason="")
            self._leave_out(record, f"{record.name}, with the same setting, failed")
            return record

    def measured_on_test(self, name: str, figures: dict[str, float]) -> None:
        """Note the figures of one of the best trials on the test split."""
        with self._lock:
            self._change(self.state.named(name), test=figures)

    def _over(self, name: str, seconds: float, **changes: Any) -> TrialRecord:
        with self._lock:
            record = self.state.named(name)
            return self._change(record, seconds=record.seconds + seconds, **changes)

    def _leave_out(self, ended: TrialRecord, reason: str) -> None:
        for other in self.repeats_of(ended):
            if other.state == "waiting":
                self._change(other, state="stopped", reason=reason)

    def _draw(self) -> None:
        """Add the trials of another setting; one that cannot be has failed at once."""
        settings = by_setting(self.records)
        params = self._starting([repeats[0].params for repeats in settings]) or draw(
            *(self.plan.searcher, self.dimensions, self.config.training.seed, self.told())
        )
        if params is None:
            self.is_exhausted = True
            return
        reason = self._unfit(params)
        for repeat in range(1 if reason else self.plan.repeats):
            number = len(self.records)
            self.state.save(
                TrialRecord(
                    number=number,
                    name=name_of(number, self.plan.name),
                    setting=len(settings),
                    repeat=repeat,
                    params=params,
                    seed=self.config.training.seed + repeat,
                    state="failed" if reason else "waiting",
                    reason=reason,
                )
            )

    def _starting(self, tried: list[Params]) -> Params | None:
        return next((params for params in self.plan.starting if params not in tried), None)

    def _unfit(self, params: Params) -> str:
        try:
            self.check(config_of(self.config, params))
        except (ValueError, OSError) as error:
            return " ".join(str(error).split())
        return ""

    def told(self) -> list[Told]:
        """What each setting came to, as a searcher is told."""
        return [
            Told(repeats[0].params, self._came_to(repeats)) for repeats in by_setting(self.records)
        ]

    def _came_to(self, repeats: list[TrialRecord]) -> tuple[float, ...]:
        """Of each objective the mean over the repeats that have not failed, to be large."""
        if not all(record.state in OVER for record in repeats):
            return ()
        found = []
        for objective in self.plan.objectives:
            values = [
                value
                for record in repeats
                if record.state != "failed"
                and (value := objective.value(record, self.config)) is not None
            ]
            if not values:
                return ()
            found.append(objective.sign * statistics.fmean(values))
        return tuple(found)

    def _change(self, record: TrialRecord, **changes: Any) -> TrialRecord:
        return self.state.save(dataclasses.replace(record, **changes))
