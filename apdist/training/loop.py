"""The training loop of one worker: batches -> global step -> optimiser -> evaluation, checkpoint.

All workers do the same steps on the same global batches; only worker 0 talks: it posts events,
writes checkpoints and saves the model.
"""

import socket
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NoReturn

import torch

from apdist.config import Config, config_hash, override
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.loading.stream import TrainingStream
from apdist.data.plan.batch_sampler import Plan
from apdist.figures import STEP, logged
from apdist.model.adapters import merged
from apdist.model.pretrained import save_model
from apdist.training.choosing import ChosenWeights
from apdist.training.events import (
    ChunksResized,
    Ended,
    Noticed,
    Started,
    StepDone,
)
from apdist.training.job import Job
from apdist.training.judging import Judge
from apdist.training.learning.learner import Learner
from apdist.training.measuring import Measuring, watched_alone
from apdist.training.numerics import in_words
from apdist.training.regrouping import Regrouped, never_preempted
from apdist.training.run_folder.history import HistoryEvent
from apdist.training.run_folder.keeper import CheckpointOrigin, Keeper, restarts
from apdist.training.sizing import Sizing, with_chunk_size
from apdist.training.step.chunks import own_rows
from apdist.training.step.failures import ShortageError
from apdist.training.step.sharding import full_tensor
from apdist.training.stepping import Stepper


@dataclass(frozen=True)
class TrainingData:
    """The images that are trained on, and the order in which they come."""

    catalogue: Catalogue
    plan: Plan
    fingerprint: str
    """Of the catalogue."""

    def origin(self, config: Config, sizing: Sizing) -> CheckpointOrigin:
        """What the checkpoints of a training on this data, with chunks of that size, belong to."""
        sized_config = override(config, {"training.chunk_size": sizing.chunk_size})
        return CheckpointOrigin(config_hash(sized_config), self.fingerprint)


class _ChunkTooLargeError(Exception):
    """The first step does not fit, and was not tried with chunks that a person chose."""


class Loop:
    """The training loop of one worker."""

    def __init__(
        self,
        job: Job,
        keeper: Keeper,
        learner: Learner,
        catalogue: Catalogue,
        data: TrainingData,
        sizing: Sizing,
        preemption_notice: Callable[[], str] = never_preempted,
    ) -> None:
        self.job, self.keeper, self.learner = job, keeper, learner
        self.preemption_notice = preemption_notice
        self.config, self.data, self.network = job.config, data, learner.network
        self.workers = keeper.workers
        self.device = next(self.network.parameters()).device
        self.stalled_s = 0.0
        """For which a checkpoint has kept the loop waiting since the last step."""
        self.stepper = Stepper(self.config, learner, sizing, self.workers, keeper.begin)
        self.set_sizing(sizing)
        measured = watched_alone(self.config, catalogue) if job.is_trial else self.config
        self.measuring = Measuring(
            *(measured, keeper, self.network, learner.mean, catalogue, self.tell)
        )
        self.judge = Judge(self.config, keeper.history, self.measuring.watched)

    def set_sizing(self, sizing: Sizing) -> None:
        """Have options and checkpoints say with which chunks steps are computed."""
        self.sizing = sizing
        self.config = override(self.config, {"training.chunk_size": sizing.chunk_size})
        self.origin = self.data.origin(self.config, sizing)

    def announce(self, step: int) -> list[str]:
        """Tell the driver what is trained on, how steps are computed, and what they go on from.

        Returns:
            The host of each worker.
        """
        hosts = self.workers.gather_texts(socket.gethostname(), self.device)
        self.keeper.post(
            Started(
                step=step,
                **vars(self.data.plan.summary),
                **vars(self.sizing),
                watched=self.measuring.watched,
                numerics=in_words(self.config.training, self.device),
                history=list(self.keeper.pages),
                hosts=hosts,
            )
        )
        if self.workers.rank == 0:
            resumed = [self.job.resumed] if self.job.resumed else []
            failures = [*resumed, *self.keeper.link.failures()]
            history, per_hour = self.keeper.history, self.config.ray.restarts_per_hour
            for event in restarts(failures, history, step, per_hour, self.workers.size):
                self.keeper.post(event)
        return hosts

    def tell(self, event: HistoryEvent) -> None:
        """Post what was measured, and the notices that the judge takes from it."""
        self.keeper.post(event)
        for notice in self.judge.after(event):
            self.keeper.post(notice)

    def run_steps(self, start: int) -> int:
        """Steps from ``start`` on; returns the number of steps done altogether."""
        self.measuring.begin(start)
        try:
            return self.steps_of_stream(start)
        except _ChunkTooLargeError:
            pass  # outside of the handler, which holds what did not fit
        self.halve_chunks(start)
        return self.steps_of_stream(start)

    def halve_chunks(self, step: int) -> None:
        """Halve the chunks, once: the size that fitted a trial chunk did not fit the first step."""
        self.learner.optimizer.zero_grad()
        self.learner.loss.zero_grad()
        size = self.sizing.chunk_size
        reason = f"{size} did not fit in the first step"
        # Without a reason a size is not halved again: the next shortage is a person's to solve.
        smaller = with_chunk_size(self.config, size // 2, "", self.network, self.workers)
        self.stepper.use(smaller)
        self.set_sizing(smaller)
        self.keeper.post(ChunksResized(chunk_size=smaller.chunk_size))
        text = f"out of memory: {reason}; going on with training.chunk_size {size // 2}"
        self.keeper.post(Noticed(step=step, topic="chunk_size", text=text))

    def stream(self) -> TrainingStream:
        """This worker's part of the batches."""
        size, workers = self.sizing.chunk_size, self.workers
        return TrainingStream(
            self.data.catalogue,
            self.data.plan,
            self.config.data,
            self.config.augment,
            lambda rows: rows[own_rows(len(rows), size, workers.rank, workers.size)],
        )

    def steps_of_stream(self, start: int) -> int:
        """Steps from ``start`` on with chunks of one size; returns the number of steps done.

        Raises:
            _ChunkTooLargeError: the first one does not fit, and may be tried with smaller ones.
        """
        size, steps = self.config.training.accumulate, self.config.training.steps
        done = start
        self.keeper.begin("first step")
        with closing(self.stream().batches(start * size, steps * size)) as batches:
            stop = False
            while done < steps and not stop and not self.measuring.is_enough:
                try:
                    measured = self.stepper.one_step(done, batches, self.stalled_s)
                except ShortageError as error:
                    if done == start and self.sizing.may_shrink:
                        raise _ChunkTooLargeError from error
                    raise
                self.stalled_s = 0.0
                done += 1
                stop, replaced, is_preempted = self.exchange_flags(measured.num_replaced)
                measured = replace(measured, num_replaced=replaced)
                figures = logged(STEP, measured) | measured.terms(self.config.loss.names_of_terms)
                self.tell(StepDone(step=done, figures=figures))
                self.after_step(done, stop, is_preempted)
        return done

    def regroup_preempted(self, step: int) -> NoReturn:
        """Have all workers end once the checkpoint is written: some are about to be preempted.

        Raises:
            Regrouped: always; with the notices that workers got.
        """
        self.keeper.settle(self.device)
        told = self.workers.gather_texts(self.preemption_notice(), self.device)
        ranks = tuple(rank for rank, text in enumerate(told) if text)
        raise Regrouped(f"{told[ranks[0]]}; checkpoint after step {step}", ranks)

    def regroup_if_room(self, step: int) -> None:
        """Have all workers end once the checkpoint is written, if there is room for more of them.

        Raises:
            Regrouped: there is.
        """
        room = self.keeper.link.room() if self.workers.rank == 0 else 0
        room = self.workers.broadcast_number(room, self.device)
        if room > self.workers.size:
            self.keeper.settle(self.device)
            raise Regrouped(f"there is room for {room} workers; checkpoint after step {step}")

    def after_step(self, done: int, stop: bool, is_preempted: bool) -> None:
        """Save and evaluate where it is time for it; asked to stop, leave nothing out.

        Raises:
            Regrouped: another group of workers goes on from the checkpoint.
        """
        if done == 1:
            self.post_similarities(1)
        is_regular = done % self.config.checkpoint.every_steps == 0 or self.is_last(done)
        if is_regular or stop or is_preempted:
            # First: an evaluation that fails must not cost the steps before it.
            self.save(done)
        if is_preempted and not stop and not self.is_last(done):
            self.regroup_preempted(done)  # no time to evaluate: the next group does that
        if self.measuring.measure_due(done):
            self.post_similarities(done)
            if self.measuring.is_enough and not self.keeper.is_saved(done):
                self.save(done)
            self.keeper.save_history(done)
        if (
            self.config.ray.is_elastic
            and self.keeper.is_saved(done)
            and not (stop or self.is_done(done))
        ):
            self.regroup_if_room(done)

    def save(self, step: int) -> None:
        """Begin to write a checkpoint."""
        began = time.perf_counter()
        learner = self.learner
        self.keeper.save(step, learner.network, learner.optimizer, self.origin, learner.parts)
        self.stalled_s = time.perf_counter() - began

    def is_last(self, step: int) -> bool:
        """Whether ``step`` is the last one."""
        return step == self.config.training.steps

    def is_done(self, step: int) -> bool:
        """Whether the training has come to its end after ``step`` steps."""
        return self.is_last(step) or self.measuring.is_enough

    def finish(self, step: int) -> None:
        """Measure the chosen weights, and write them into the run's folder."""
        with self.measuring.chosen(step) as weights:
            self.save_model(step, weights)

    def save_model(self, step: int, weights: ChosenWeights) -> None:
        """Write the network, which has the chosen weights, into the run's folder."""
        self.keeper.begin("saving the model")
        state = {name: full_tensor(value) for name, value in self.network.state_dict().items()}
        if self.workers.rank == 0:
            self.keeper.refuse_if_lost()
            network, fit = self.network, self.measuring.fit
            plain = merged(network, state)
            model_id = save_model(network, plain, fit, self.job.run, weights.as_json())
            is_early = not self.is_last(step)
            self.keeper.post(
                Ended(step=step, model_id=model_id, weights=str(weights), is_early=is_early)
            )
            self.keeper.save_history(step)

    def exchange_flags(self, num_replaced: int) -> tuple[bool, int, bool]:
        """What all workers need to know after a step, in one small all-reduce.

        Returns:
            Whether the driver asked for a stop, how many images were replaced on all workers, and
            whether a worker is about to be preempted.
        """
        asked = self.workers.rank == 0 and self.keeper.link.stop_requested()
        own = [int(asked), num_replaced, int(bool(self.preemption_notice()))]
        stop, replaced, notices = self.workers.sum(torch.tensor(own, device=self.device)).tolist()
        return stop > 0, replaced, notices > 0

    def post_similarities(self, step: int) -> None:
        """Tell how similar the pairs of the last batch were."""
        if (event := self.stepper.similarities(step)) is not None:
            self.keeper.post(event)
