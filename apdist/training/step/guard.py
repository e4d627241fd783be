"""What goes wrong on one worker is raised on all of them: nobody waits for one who is gone.

A worker that fails goes on taking part in what all do together until they next tell each other how
it went. So a step needs few such meetings, and none of its collectives is ever left by a worker.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size, M bins.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from apdist.config.loss import LossOptions
from apdist.loss.precision import NUM_SCALARS
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import (
    BatchError,
    ShortageError,
    WorkerError,
    kind_of,
    text_of,
)

_KINDS: list[type[Exception]] = [BatchError, WorkerError, ShortageError]
"""What workers tell each other by its place, from 1 on; 0: all is well."""


class Guard:
    """Keeps what goes wrong on a worker until all of them raise it.

        with guard("to describe its images"):   # what this raises is kept
            ...
        guard.meet()                            # all raise, or none

    Args:
        workers: who takes part.
        device: where small tensors for the workers lie.
        where: what the blocks are part of, for messages.
        advice: what helps where memory is short.
    """

    def __init__(self, workers: Workers, device: torch.device, where: str, advice: str) -> None:
        self.workers, self.device, self.where, self.advice = workers, device, where, advice
        self._failure: Exception | None = None
        self._doing = ""

    @contextmanager
    def __call__(self, doing: str) -> Iterator[None]:
        """Run the block; what it raises is kept for `meet`, the first one of several.

        Args:
            doing: what the block does, for the message.
        """
        try:
            yield
        except AllFailedError as error:
            if isinstance(error.__cause__, Exception):
                self._failure, self._doing = error.__cause__, doing
            self.meet()
            raise
        except Exception as error:  # raised again by `meet`, on all workers alike
            if self._failure is None:
                self._failure, self._doing = error, doing

    def meet(self, *numbers: int) -> list[list[int]]:
        """Tell each other that all went well so far, and ``numbers``; returns those of everyone.

        Raises:
            BatchError: bad input (a ValueError) on any worker; `ShortageError`: too little memory.
            WorkerError: any other exception, on any worker.
        """
        failure = self._failure
        kind = 0 if failure is None else 1 + _KINDS.index(kind_of(failure))
        told = self.workers.gather_number_lists([kind, *numbers], self.device)
        kinds = [kind for kind, *_ in told]
        if not any(kinds):
            return [found for _, *found in told]
        text = f"{self._doing} {self.where}: {text_of(failure, self.advice)}" if failure else ""
        texts = self.workers.gather_texts(text, self.device)
        rank = next(rank for rank, kind in enumerate(kinds) if kind)
        raised = _KINDS[kinds[rank] - 1]
        raise raised(f"worker {rank} of {self.workers.size} failed {texts[rank]}") from failure


class AllFailedError(WorkerError):
    """Every worker has seen that the sums of the loss cannot be used."""


class LossCollectives:
    """The two collectives of a listwise loss: every worker takes part in both, or in one.

    A worker that fails before the first sends NaN, so that all see it in the sums, which they look
    at anyway. One that fails later takes part in the second with whatever it has. Several listwise
    losses are as many rounds: who has failed in one sends NaN in the next.

    Args:
        workers: who takes part.
        sizes: b of every worker.
        like: of the precision and on the device of the descriptors.
    """

    def __init__(self, workers: Workers, sizes: Sequence[int], like: Tensor) -> None:
        self.workers, self.sizes, self.like = workers, sizes, like
        self._slopes: Tensor | None = None
        self._has_summed, self._rounds_done = False, 0

    @contextmanager
    def attended(self, loss: Any) -> Iterator[None]:
        """Run the block, which scores with ``loss``; take part in what it has left out.

        Raises:
            AllFailedError: on all workers, where one has failed before the sums.
        """
        try:
            yield
        except AllFailedError:
            raise
        except Exception as error:
            options = getattr(loss, "options", None)
            if isinstance(options, LossOptions):
                self._catch_up(error, options.num_bins, getattr(loss, "num_rounds", 1))
            raise

    def _catch_up(self, error: Exception, num_bins: int, num_rounds: int) -> None:
        if self._has_summed:
            assert self._slopes is not None
            self._gather(self._slopes)
        if self._rounds_done < num_rounds:
            num_sums = NUM_SCALARS + 2 * num_bins
            nothing = self.like.new_full((num_sums,), torch.nan, dtype=torch.float64)
            self.workers.sum(nothing)
            raise AllFailedError from error

    def sum(self, values: Tensor) -> Tensor:
        """Sum of ``values`` (7 + 2 M,) over the workers, on the CPU: the one wait for the device.

        Raises:
            AllFailedError: it is not finite, on all workers.
        """
        num_bins = (len(values) - NUM_SCALARS) // 2
        # Now, because who is short of memory for them can still say so.
        self._slopes = self.like.new_empty((sum(self.sizes), 2, num_bins - 1))
        self._has_summed = True
        sums = self.workers.sum(values).cpu()
        if not bool(sums.isfinite().all()):
            raise AllFailedError("the sums of the loss are not finite")
        return sums

    def labels(self, own: Tensor) -> Tensor:
        """Labels or ids (n,) of all workers, from the ``own`` ones (b,)."""
        return self.workers.gather_rows(own.long(), self.sizes)

    def gather(self, rows: Tensor) -> Tensor:
        """Slopes (n, 2, M-1) of all workers, from the own ``rows`` (b, 2, M-1)."""
        assert self._slopes is not None
        self._slopes.split(list(self.sizes))[self.workers.rank].copy_(rows)
        return self._gather(self._slopes)

    def _gather(self, slopes: Tensor) -> Tensor:
        self._has_summed, self._rounds_done = False, self._rounds_done + 1
        self.workers.fill_rows(slopes, self.sizes)
        return slopes
