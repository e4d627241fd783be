"""The training loop of one worker: batches -> global step -> optimiser -> evaluation, checkpoint.

All workers run this function with equal arguments. They do the same steps on the same global
batches; only worker 0 talks: it posts events, writes checkpoints and saves the model.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from apdist.config import Config, config_hash
from apdist.config.loss import LossOptions
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.catalogue.selection import training_images
from apdist.data.loading.stream import Batch, TrainingStream
from apdist.data.loading.telemetry import Waiting, total
from apdist.data.plan.plan import PlanSummary, build_plan
from apdist.figures import EVALUATION, STEP, MeasuredStep, logged
from apdist.loss.batch_loss import build_loss
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.precision import bin_centres
from apdist.loss.results import Diagnostics
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import build_model, save_model
from apdist.retrieval.scores_file import write_scores
from apdist.training.checkpoint import (
    CheckpointMeta,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    whole_state,
)
from apdist.training.evaluation import evaluate
from apdist.training.events import (
    CheckpointWritten,
    Ended,
    Evaluated,
    Event,
    Similarities,
    Started,
    StepDone,
)
from apdist.training.mailbox import Link
from apdist.training.optimizers import build_optimizer, learning_rate_at, update_weights
from apdist.training.prefetch import on_device
from apdist.training.runs import evaluation_name
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.memory import choose_activations
from apdist.training.step.options import StepOptions
from apdist.training.step.results import StepResult
from apdist.training.step.sharding import shard_parameters, whole
from apdist.training.step.step import global_step

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What every worker of a run gets."""

    config: Config
    run: str
    """URI of the run's folder."""
    report: Callable[[dict[str, float]], None] = lambda _: None
    """Called on every worker with the metrics of an evaluation (Ray Tune listens)."""


def train(job: Job, link: Link, device: torch.device) -> None:
    """Train until the last step or until the driver asks to stop.

    Raises:
        ValueError: data, options or the checkpoint cannot be used.
    """
    config, options = job.config, job.config.training
    workers = Workers()
    torch.manual_seed(options.seed)
    network = build_model(config.model).to(device).train()
    workers.broadcast_state(network)
    if options.parameters == "sharded":
        shard_parameters(network, device, workers.size)
    optimizer = build_optimizer(network, config)
    catalogue = read_catalogue(config.data.shards)
    training_catalogue = training_images(catalogue, config.data, options.seed)
    plan = build_plan(training_catalogue.labels, config)
    checkpoint = latest_checkpoint(job.run)
    origin = {"config_hash": config_hash(config), "data_hash": training_catalogue.fingerprint()}
    start = load_checkpoint(checkpoint, network, optimizer, **origin) if checkpoint else 0
    worker = _Worker(job, link, network, optimizer, catalogue, origin)
    worker.start(start, plan.summary)
    if options.compile:
        network.compile()
    if start == 0:
        worker.evaluate(0)
    stream = TrainingStream(
        training_catalogue,
        plan,
        config.data,
        config.augment,
        lambda rows: rows[own_rows(len(rows), options.chunk_size, workers.rank, workers.size)],
    )
    done = worker.run_steps(stream, start)
    if done == options.steps:
        worker.save_model(done)


class _Worker:
    """One worker's model, optimiser and its line to the driver."""

    def __init__(
        self,
        job: Job,
        link: Link,
        network: DescriptorNet,
        optimizer: torch.optim.Optimizer,
        catalogue: Catalogue,
        origin: dict[str, str],
    ) -> None:
        self.job, self.link, self.network, self.optimizer = job, link, network, optimizer
        self.origin = origin
        self.config = job.config
        self.catalogue = catalogue
        self.workers = Workers()
        self.device = next(network.parameters()).device
        self.loss = build_loss(self.config.loss)
        self.bins: LossOptions | None = (
            self.loss.options if isinstance(self.loss, AveragePrecisionLoss) else None
        )
        self.activations, self.reason = choose_activations(
            network, self.config.data.image_size, self.config.training, self.workers
        )
        self.step_options = StepOptions(
            loss=self.loss,
            chunk_size=self.config.training.chunk_size,
            seed=self.config.training.seed,
            activations=self.activations,
            bf16=self.config.training.precision == "bf16",
        )
        self.diagnostics: Diagnostics | None = None
        self.saved_step = -1

    def start(self, step: int, summary: PlanSummary) -> None:
        """Tell what is trained on, and how the step is computed."""
        mode, reason = self.activations, self.reason
        self.post(Started(step=step, **vars(summary), activations=mode, activations_reason=reason))

    def run_steps(self, stream: TrainingStream, start: int) -> int:
        """Steps from ``start`` on; returns the number of steps done altogether."""
        config = self.config
        size, done, waiting = config.training.accumulate, start, Waiting(config.data)
        streamed = stream.batches(start * size, config.training.steps * size)
        with closing(on_device(streamed, self.device)) as batches:
            while done < config.training.steps:
                measured = self.one_step(done, batches, waiting)
                done += 1
                stop, replaced = self.agree(measured.num_replaced)
                measured = replace(measured, num_replaced=replaced)
                self.post(StepDone(step=done, figures=logged(STEP, measured)))
                if stop:
                    break
                if done % config.evaluation.every_steps == 0 or done == config.training.steps:
                    self.evaluate(done)
                    self.post_similarities(done)
                if done % config.checkpoint.every_steps == 0:
                    self.save(done)
        self.save(done)
        return done

    def one_step(self, step: int, batches: Iterator[Batch], waiting: Waiting) -> MeasuredStep:
        """Move the weights by the mean gradient of the next batches; returns what was measured."""
        started = time.perf_counter()
        results, streamed = [], []
        for _ in range(self.config.training.accumulate):
            batch = next(batches)
            streamed.append(batch.figures)
            results.append(self.add_gradient(batch))
        self.diagnostics = results[-1].diagnostics
        if step == 0:
            self.post_similarities(1)
        update_weights(self.network, self.optimizer, step, self.config)
        seconds = time.perf_counter() - started
        own = total(streamed)
        if warning := waiting.note(own, seconds):
            logger.warning(warning)
        return MeasuredStep(
            results=results,
            stream=own,
            num_replaced=own.num_replaced,
            num_images=self.config.training.batch_size * len(results),
            seconds=seconds,
            learning_rate=learning_rate_at(step, self.config),
            bins=self.bins,
        )

    def add_gradient(self, batch: Batch) -> StepResult:
        """The three stages on one global batch."""
        return global_step(
            self.network,
            batch.images.to(self.device),  # another accelerator than CUDA
            batch.labels.to(self.device),
            self.step_options,
            step=batch.step,
        )

    def evaluate(self, step: int) -> None:
        """Measure the evaluation split; tell the driver, and Tune on every worker."""
        if not self.config.data.eval_split:
            return
        started = time.perf_counter()
        scores = evaluate(self.network, self.catalogue, self.config, self.workers)
        metrics = {"step": float(step)}
        if scores is not None:
            figures = logged(EVALUATION, scores)
            write_scores(scores, storage.join(self.job.run, evaluation_name(step)))
            seconds = time.perf_counter() - started
            self.post(Evaluated(step=step, figures=figures, seconds=seconds))
            metrics |= figures
        self.job.report(metrics)

    def save(self, step: int) -> None:
        """Write a checkpoint, once per step."""
        if step == self.saved_step:
            return
        self.saved_step = step
        state = whole_state(self.network, self.optimizer)
        if self.workers.rank != 0:
            return
        meta = CheckpointMeta(step=step, **self.origin)
        uri = save_checkpoint(self.job.run, state, meta)
        prune_checkpoints(self.job.run, self.config.checkpoint.keep)
        self.post(CheckpointWritten(step=step, uri=uri))

    def save_model(self, step: int) -> None:
        """Write the trained network into the run's folder."""
        state = {name: whole(value) for name, value in self.network.state_dict().items()}
        if self.workers.rank == 0:
            size = self.config.data.image_size
            model_id = save_model(self.network.config, state, size, self.job.run)
            self.post(Ended(step=step, model_id=model_id))

    def agree(self, num_replaced: int) -> tuple[bool, int]:
        """Whether the driver asked for an end, and the images replaced on all workers."""
        asked = self.workers.rank == 0 and self.link.stop_requested()
        told = self.workers.sum(torch.tensor([int(asked), num_replaced], device=self.device))
        return bool(told[0] > 0), int(told[1])

    def post_similarities(self, step: int) -> None:
        """Tell how similar the pairs of the last batch were, in shares by bin."""
        if self.diagnostics is None or self.bins is None:
            return
        told = self.diagnostics
        positive, negative = (
            (histogram / histogram.sum().clamp(min=1)).tolist()
            for histogram in (told.positive_histogram, told.negative_histogram)
        )
        centres = bin_centres(self.bins).tolist()
        self.post(Similarities(step=step, centres=centres, positive=positive, negative=negative))

    def post(self, event: Event) -> None:
        """Send an event from worker 0."""
        if self.workers.rank == 0:
            self.link.post(event)
