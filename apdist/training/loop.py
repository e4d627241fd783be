"""The training loop of one worker: batches -> global step -> optimiser -> evaluation, checkpoint.

All workers run this function with equal arguments. They do the same steps on the same global
batches; only worker 0 talks: it posts events, writes checkpoints and saves the model.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apdist.config import Config, config_hash
from apdist.data import storage
from apdist.data.index import Index, read_index
from apdist.data.plan import Plan
from apdist.data.stream import TrainingStream, shard_names
from apdist.loss.average_precision import AveragePrecisionLoss
from apdist.model.pretrained import build_model, save_model
from apdist.retrieval.describe import describe_images
from apdist.retrieval.metrics import RetrievalScores, score_labelled
from apdist.retrieval.scores_file import write_scores
from apdist.training.checkpoint import (
    CheckpointMeta,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from apdist.training.collectives import (
    broadcast_state,
    gather_rows,
    gather_sizes,
    rank_and_size,
    sum_over_workers,
)
from apdist.training.events import Link
from apdist.training.runs import evaluation_name
from apdist.training.step import StepResult, global_step, own_rows

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
    config = job.config
    torch.manual_seed(config.training.seed)
    network = build_model(config.model).to(device).train()
    optimizer = build_optimizer(network, config)
    index = read_index(config.data.shards)
    training_index = index.select(config.data.train_split)
    plan = Plan(
        training_index.labels,
        batch_size=config.training.batch_size,
        group_size=config.data.group_size,
        seed=config.training.seed,
    )
    checkpoint = latest_checkpoint(job.run)
    start = (
        load_checkpoint(checkpoint, network, optimizer, config_hash(config)) if checkpoint else 0
    )
    broadcast_state(network)
    worker = _Worker(job, link, network, optimizer, index)
    worker.post(kind="start", step=start, **vars(plan.summary))
    if start == 0:
        worker.evaluate(0)
    stream = TrainingStream(
        training_index,
        plan,
        config.data,
        config.augment,
        lambda rows: rows[
            own_rows(len(rows), config.training.chunk_size, worker.rank, worker.num_workers)
        ],
    )
    done = worker.run_steps(stream, start)
    if done == config.training.steps and worker.rank == 0:
        model_id = save_model(network, config.data.image_size, job.run)
        worker.post(kind="end", step=done, model_id=model_id)


class _Worker:
    """One worker's model, optimiser and its line to the driver."""

    def __init__(
        self,
        job: Job,
        link: Link,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        index: Index,
    ) -> None:
        self.job, self.link, self.network, self.optimizer = job, link, network, optimizer
        self.config = job.config
        self.index = index
        self.rank, self.num_workers = rank_and_size()
        self.device = next(network.parameters()).device
        options = self.config.loss
        self.loss = AveragePrecisionLoss(
            num_bins=options.num_bins, score_range=(options.min_score, options.max_score)
        )
        self.saved_step = -1

    def run_steps(self, stream: TrainingStream, start: int) -> int:
        """Steps from ``start`` on; returns the number of steps done altogether."""
        config = self.config
        done, clock = start, time.perf_counter()
        for batch in stream.batches(start, config.training.steps):
            waited_s = time.perf_counter() - clock
            result = self.step(batch.images, batch.labels, batch.step)
            done = batch.step + 1
            seconds = time.perf_counter() - clock
            clock = time.perf_counter()
            stop, replaced = self.agree(batch.num_replaced)
            self.post_step(result, batch.step, seconds, waited_s, replaced)
            if stop:
                break
            if done % config.evaluation.every_steps == 0 or done == config.training.steps:
                self.evaluate(done)
            if done % config.checkpoint.every_steps == 0:
                self.save(done)
            clock = time.perf_counter()
        self.save(done)
        return done

    def step(self, images: Tensor, labels: Tensor, step: int) -> StepResult:
        """One update of the weights."""
        options = self.config.training
        self.optimizer.zero_grad()
        result = global_step(
            self.network,
            images.to(self.device, non_blocking=True),
            labels.to(self.device),
            loss=self.loss,
            chunk_size=options.chunk_size,
            seed=options.seed,
            step=step,
            bf16=options.precision == "bf16",
        )
        # Gradients are reduced already, so every worker finds the same norm and decides alike.
        norm = nn.utils.clip_grad_norm_(
            self.network.parameters(), options.clip_norm or math.inf, error_if_nonfinite=False
        )
        if not torch.isfinite(norm):
            logger.warning("step %d has a gradient that is not finite; skipped", step)
            return result
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, self.config)
        self.optimizer.step()
        return result

    def evaluate(self, step: int) -> None:
        """Describe the evaluation split together, score it on worker 0, tell driver and Tune."""
        if not self.config.data.eval_split:
            return
        started = time.perf_counter()
        split = self.index.select(self.config.data.eval_split)
        rows, descriptors = describe_images(
            self.network,
            split,
            image_size=self.config.data.image_size,
            batch_size=self.config.evaluation.batch_size,
            num_threads=self.config.data.loader_threads,
            shards=shard_names(split)[self.rank :: self.num_workers],
        )
        gathered = self._gather(rows, descriptors, split)
        metrics = {"step": float(step)}
        if self.rank == 0:
            scores = score_labelled(gathered, torch.tensor(split.labels))
            metrics |= summary(scores)
            write_scores(scores, storage.join(self.job.run, evaluation_name(step)))
            seconds = time.perf_counter() - started
            self.post(kind="evaluation", **(metrics | {"step": step, "seconds": seconds}))
        self.job.report(metrics)

    def _gather(self, rows: np.ndarray, descriptors: Tensor, split: Index) -> Tensor:
        """All workers' descriptors in the order of ``split``, (n, d)."""
        sizes = gather_sizes(len(rows), self.device)
        width = max(gather_sizes(descriptors.shape[1], self.device))
        own = descriptors if len(rows) else descriptors.new_empty(0, width)
        all_rows = gather_rows(torch.from_numpy(rows).to(self.device), sizes).cpu()
        ordered = torch.empty(len(split), width)
        ordered[all_rows] = gather_rows(own.to(self.device), sizes).cpu()
        return ordered

    def save(self, step: int) -> None:
        """Write a checkpoint, once per step."""
        if self.rank != 0 or step == self.saved_step:
            return
        self.saved_step = step
        meta = CheckpointMeta(step=step, config_hash=config_hash(self.config))
        uri = save_checkpoint(self.job.run, self.network, self.optimizer, meta)
        prune_checkpoints(self.job.run, self.config.checkpoint.keep)
        self.post(kind="checkpoint", step=step, uri=uri)

    def agree(self, num_replaced: int) -> tuple[bool, int]:
        """Whether the driver asked for an end, and the images replaced on all workers."""
        asked = self.rank == 0 and self.link.stop_requested()
        told = sum_over_workers(torch.tensor([int(asked), num_replaced], device=self.device))
        return bool(told[0] > 0), int(told[1])

    def post_step(
        self, result: StepResult, step: int, seconds: float, waited_s: float, replaced: int
    ) -> None:
        """Tell the driver what a step found."""
        self.post(
            kind="step",
            step=step + 1,
            loss=result.loss,
            binned_map=1 - result.loss,
            images_per_s=self.config.training.batch_size / seconds,
            learning_rate=learning_rate_at(step, self.config),
            seconds=seconds,
            waited_s=waited_s,
            describe_s=result.describe_s,
            score_s=result.score_s,
            backprop_s=result.backprop_s,
            lone_queries=result.num_lone_queries,
            replaced_images=replaced,
        )

    def post(self, **event: Any) -> None:
        """Send an event from worker 0."""
        if self.rank == 0:
            self.link.post(event)


def summary(scores: RetrievalScores) -> dict[str, float]:
    """The figures that are logged."""
    figures = {
        "map": scores.mean_average_precision,
        "r_precision": scores.r_precision,
        "num_queries": float(scores.num_queries),
    }
    return figures | {f"recall_at_{k}": value for k, value in scores.recall_at.items()}


def build_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The optimiser over the trainable parameters."""
    options = config.training
    parameters = [p for p in network.parameters() if p.requires_grad]
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay)
    kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay)


def learning_rate_at(step: int, config: Config) -> float:
    """Learning rate of ``step``: a function of the step alone, so nothing has to be resumed."""
    options = config.training
    share = (step + 0.5) / options.steps
    if options.schedule == "constant":
        return options.learning_rate
    if options.schedule == "linear":
        return options.learning_rate * (1 - share)
    if share < options.warmup_share:
        return options.learning_rate * share / options.warmup_share
    fall = (share - options.warmup_share) / (1 - options.warmup_share)
    return options.learning_rate * (1 + math.cos(math.pi * fall)) / 2
