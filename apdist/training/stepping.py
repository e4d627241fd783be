"""One optimiser step of a worker: batches in, moved weights and figures out.

What follows a step (checkpoint, evaluation, the end of the training) is decided in `loop.py`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator

from apdist.config import Config
from apdist.data.loading.stream import Batch
from apdist.data.loading.telemetry import Waiting, total
from apdist.figures import MeasuredStep
from apdist.loss.precision import bin_centres
from apdist.loss.results import Diagnostics
from apdist.loss.weighted import options_of
from apdist.training.events import Similarities
from apdist.training.learning.freezing import Freezing
from apdist.training.learning.learner import Learner
from apdist.training.learning.optimizers import learning_rate_at, update_weights
from apdist.training.memory_use import peak_memory
from apdist.training.sizing import Sizing
from apdist.training.step.chunks import sizes_of_workers
from apdist.training.step.collectives import Workers
from apdist.training.step.options import StepOptions
from apdist.training.step.step import global_step

logger = logging.getLogger(__name__)

PATIENCE_S = 2.0
"""The driver is told of a batch that takes longer to come."""


class Stepper:
    """Moves the weights, step by step; all workers call it alike.

    Args:
        config: of the run.
        learner: what is moved.
        sizing: of the chunks.
        workers: all of them.
        begin: tells the driver what goes on now, see `Keeper.begin`.
    """

    def __init__(
        self,
        config: Config,
        learner: Learner,
        sizing: Sizing,
        workers: Workers,
        begin: Callable[[str], None],
    ) -> None:
        self.config, self.learner, self.workers, self.begin = config, learner, workers, begin
        self.network = learner.network
        self.device = next(self.network.parameters()).device
        self.bins = options_of(learner.loss.loss)
        self.freezing = Freezing(self.network, config.training)
        self.diagnostics: Diagnostics | None = None
        """Of the last batch."""
        self.use(sizing)

    def use(self, sizing: Sizing) -> None:
        """Compute steps with chunks of that size from now on."""
        options, size = self.config.training, sizing.chunk_size
        self.step_options = StepOptions(
            loss=self.learner.loss.loss,
            chunk_size=size,
            seed=options.seed,
            activations=sizing.activations,
            bf16=options.precision == "bf16",
            gather_once=sizing.gathered_once,
            worker_sizes=sizes_of_workers(options.batch_size, size, self.workers.size),
        )
        self.waiting = Waiting(self.config.data)

    def one_step(self, step: int, batches: Iterator[Batch], stalled_s: float) -> MeasuredStep:
        """Move the weights by the mean gradient of the next batches.

        Args:
            step: number of the step.
            batches: gives `training.accumulate` of them.
            stalled_s: seconds that a checkpoint has kept the loop waiting since the step before.

        Raises:
            ShortageError: there is too little memory; on all workers.
        """
        started = time.perf_counter()
        self.freezing.set_step(step)
        results, streamed = [], []
        for _ in range(self.config.training.accumulate):
            batch = self._next_batch(batches)
            streamed.append(batch.figures)
            images, labels, options = batch.images, batch.labels, self.step_options
            results.append(global_step(self.network, images, labels, options, step=batch.step))
        self.diagnostics = results[-1].diagnostics
        learner = self.learner
        if update_weights(learner.optimizer, step, self.config):
            learner.loss.update(learning_rate_at(step, self.config))
        learner.loss.zero_grad()
        learner.mean.after_step(step + 1)
        seconds = time.perf_counter() - started
        own, peak = total(streamed), peak_memory(self.device)
        if warning := self.waiting.note(own, seconds):
            logger.warning(warning)
        return MeasuredStep(
            results=results,
            stream=own,
            num_replaced=own.num_replaced,
            num_images=self.config.training.batch_size * len(results),
            seconds=seconds,
            stalled_s=stalled_s,
            device_peak_mib=peak.device_mib,
            host_peak_mib=peak.host_mib,
            learning_rate=learning_rate_at(step, self.config),
            bins=self.bins,
        )

    def _next_batch(self, batches: Iterator[Batch]) -> Batch:
        """The next batch; the driver is told while it is long in coming."""
        late = threading.Timer(PATIENCE_S, self.begin, ["waiting for storage"])
        late.daemon = True
        started = time.perf_counter()
        late.start()
        try:
            batch = next(batches)
        finally:
            late.cancel()
        if time.perf_counter() - started >= PATIENCE_S:
            self.begin("computing")
        return batch

    def similarities(self, step: int) -> Similarities | None:
        """How similar the pairs of the last batch were, as shares by bin; None without bins."""
        if self.diagnostics is None or self.bins is None:
            return None
        found = self.diagnostics
        positive, negative = (
            (histogram / histogram.sum().clamp(min=1)).tolist()
            for histogram in (found.positive_histogram, found.negative_histogram)
        )
        centres = bin_centres(self.bins).tolist()
        return Similarities(step=step, centres=centres, positive=positive, negative=negative)
