"""One run, one writer: who trains into a run's folder holds its lease.

The lease is the file with the highest number in ``writer/`` of the run's folder. Whoever takes it
creates the next number, which only one of several can do, on a disk as in object storage; from then
on the writer before may not commit a checkpoint. The holder renews its file every few seconds. A
holder whose process has ended is succeeded at once on its own machine; elsewhere after
`SILENCE_S` without renewal, by the watcher's clock, as clocks of machines differ.
"""

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.storage.errors import MissingError
from apdist.data.storage.locks import Holder, has_ended, myself, this_machine

logger = logging.getLogger(__name__)

FOLDER = "writer"
RENEW_S = 5.0
SILENCE_S = 30.0
POLL_S = 1.0


class LeaseLost(ValueError):  # noqa: N818 - no error of this program
    """Another process writes this run now."""


@dataclass
class Lease:
    """A lease that was taken; workers get a copy to ask whether it still holds."""

    run: str
    number: int
    renewed_s: float = field(default=-math.inf, compare=False)
    """When the holder renewed it last, by its own clock."""
    is_lost: bool = field(default=False, compare=False)
    """Whether the holder has found that another process has taken it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the time: the clock of another machine says nothing there."""
        return Lease, (self.run, self.number)

    def refuse_if_lost(self) -> None:
        """Return while nobody else has taken the run.

        Raises:
            LeaseLost: somebody has, or the run was removed: it must not be made again.
        """
        newest = _newest(self.run)
        if newest < self.number:
            self.is_lost = True
            raise LeaseLost(f"{self.run} was removed while it was trained; nothing is left of it")
        if newest > self.number:
            self.is_lost = True
            raise LeaseLost(
                f"{self.run} was taken over by {_read(self.run, newest) or 'another process'}; "
                "this one writes nothing more into it"
            )

    def is_fresh(self) -> bool:
        """Whether it was renewed so lately that nobody can have taken it for silent."""
        return not self.is_lost and _clock_s() - self.renewed_s < SILENCE_S - RENEW_S

    def refuse_if_silent(self) -> None:
        """Return if the lease is fresh, without asking storage, or still holds.

        A process that was halted for long finds here that another one has gone on.

        Raises:
            LeaseLost: somebody has taken it.
        """
        if not self.is_fresh():
            self.refuse_if_lost()

    def is_lost_for_good(self) -> bool:
        """Whether it is lost; waits a little for the renewal that tells."""
        deadline_s = _clock_s() + RENEW_S
        while not self.is_fresh() and not self.is_lost and _clock_s() < deadline_s:
            time.sleep(0.05)
        return self.is_lost


@contextmanager
def held(run: str, say: Callable[[str], None]) -> Iterator[Lease]:
    """Hold the lease of ``run`` during the block, and renew it in the background.

    Args:
        run: URI of the run's folder.
        say: hears a line if another holder's silence has to be waited for.

    Raises:
        ValueError: another process trains into this run.
    """
    me = myself()
    lease = _take(run, me, say)
    ended = threading.Event()
    renewer = threading.Thread(target=_renew, args=(lease, me, ended), name="lease", daemon=True)
    renewer.start()
    try:
        yield lease
    finally:
        ended.set()
        renewer.join(RENEW_S)
        _release(lease, me)


def refuse_if_held(run: str) -> None:
    """Return unless a process of this machine trains into ``run``; nothing is waited for.

    Raises:
        ValueError: one does.
    """
    other = holder_of(run)
    if other is not None and other.machine == this_machine():
        raise _refusal(run, other)


def was_taken_over(run: str, number: int) -> bool:
    """Whether somebody has taken ``run`` after the holder of the lease ``number``."""
    return _newest(run) > number


def holder_of(run: str) -> Holder | None:
    """Who holds the lease of ``run`` and, as far as this machine can tell, is alive."""
    number = _newest(run)
    holder = _read(run, number) if number else None
    return None if holder is None or has_ended(holder) else holder


def _take(run: str, me: Holder, say: Callable[[str], None]) -> Lease:
    while True:
        number = _newest(run)
        if number and (other := _read(run, number)) is not None:
            _wait_for_silence(run, number, other, say)
        began_s = _clock_s()
        if storage.create(_place(run, number + 1), _encoded(me)):
            for old in _numbers(run):
                if old <= number:
                    storage.remove(_place(run, old))
            return Lease(run, number + 1, began_s)
        # Somebody was faster: look again, and be refused.


def _wait_for_silence(run: str, number: int, other: Holder, say: Callable[[str], None]) -> None:
    """Return when ``other`` is surely gone.

    Raises:
        ValueError: it lives.
    """
    if has_ended(other):
        return
    refused = _refusal(run, other)
    if other.machine == this_machine():
        raise refused
    say(f"{run} was last written by {other}: waiting {SILENCE_S:.0f} s for a sign of life")
    deadline = time.monotonic() + SILENCE_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        now = _read(run, number)
        if now is None or _newest(run) > number:
            return  # released, or taken by another, whom the next look finds
        if now.renewals != other.renewals:
            raise refused
    say(f"no sign of life: taking {run} over")


def _refusal(run: str, other: Holder) -> ValueError:
    return ValueError(
        f"{run} is being trained by {other}; stop that, or wait for its end, before going on with "
        "the run (another run: another --run.name)"
    )


def _renew(lease: Lease, me: Holder, ended: threading.Event) -> None:
    renewals = 0
    while not ended.wait(RENEW_S):
        renewals += 1
        began_s = _clock_s()
        try:
            lease.refuse_if_lost()
            content = _encoded(replace(me, renewals=renewals))
            storage.write_bytes(_place(lease.run, lease.number), content)
            lease.renewed_s = began_s
        except LeaseLost:
            return  # the workers find out before they commit, the driver before it writes
        except OSError as error:
            # The next time is near. If storage stays away, another may take over: as it should.
            logger.debug("the lease of %s was not renewed: %s", lease.run, error)


def _release(lease: Lease, me: Holder) -> None:
    try:
        # The file stays: its number must never be used again, or a writer long forgotten could
        # take itself for the newest.
        content = _encoded(replace(me, released=True))
        with storage.at_most(RENEW_S):
            if _newest(lease.run) == lease.number:
                storage.write_bytes(_place(lease.run, lease.number), content)
    except OSError as error:  # what ended the run is the news; the process is gone in a moment
        logger.debug("the lease of %s was not given back: %s", lease.run, error)


def _newest(run: str) -> int:
    """The number of the lease that counts; 0 if there is none."""
    return max(_numbers(run), default=0)


def _numbers(run: str) -> list[int]:
    names = storage.list_files(storage.join(run, FOLDER), ".json")
    return [int(name[:-5]) for name in names if re.fullmatch(r"\d{8}\.json", name)]


def _read(run: str, number: int) -> Holder | None:
    """The holder in lease ``number``; None if it was given back, or is no lease."""
    try:
        values: dict[str, Any] = read_json(storage.read_bytes(_place(run, number)))
        holder = Holder(**values)
    except (MissingError, ValueError, TypeError):
        return None
    return None if holder.released else holder


def _place(run: str, number: int) -> str:
    return storage.join(run, f"{FOLDER}/{number:08d}.json")


def _encoded(holder: Holder) -> bytes:
    return json.dumps(asdict(holder)).encode()


def _clock_s() -> float:
    """A clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
