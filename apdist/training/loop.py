"""The training loop of one worker: batches -> global step -> optimiser -> evaluation, checkpoint.

All workers run this function with equal arguments. They do the same steps on the same global
batches; only worker 0 talks: it posts events, writes checkpoints and saves the model.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apdist.config import Config, config_hash
from apdist.data import storage
from apdist.data.catalogue.catalogue import Index, read_index
from apdist.data.catalogue.selection import evaluation_images, training_images
from apdist.data.loading.passes import shard_names
from apdist.data.loading.stream import Batch, TrainingStream
from apdist.data.loading.telemetry import Waiting, logged, total
from apdist.data.plan.plan import build_plan
from apdist.loss.batch_loss import build_loss
from apdist.loss.listwise import AveragePrecisionLoss
from apdist.loss.precision import bin_centres
from apdist.loss.results import Diagnostics
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import build_model, save_model
from apdist.retrieval.describe import describe_images, num_batches
from apdist.retrieval.metrics import RetrievalScores, score_labelled
from apdist.retrieval.scores_file import write_scores
from apdist.training.checkpoint import (
    CheckpointMeta,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    whole_state,
)
from apdist.training.events import Link
from apdist.training.feed import on_device
from apdist.training.optimizers import build_optimizer, learning_rate_at
from apdist.training.runs import evaluation_name
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.memory import choose_activations
from apdist.training.step.options import StepOptions
from apdist.training.step.results import StepResult
from apdist.training.step.sharding import is_sharded, shard_parameters, whole
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
    index = read_index(config.data.shards)
    training_index = training_images(index, config.data, options.seed)
    plan = build_plan(training_index.labels, config)
    checkpoint = latest_checkpoint(job.run)
    origin = {"config_hash": config_hash(config), "data_hash": training_index.fingerprint()}
    start = load_checkpoint(checkpoint, network, optimizer, **origin) if checkpoint else 0
    worker = _Worker(job, link, network, optimizer, index, origin)
    worker.post(kind="start", step=start, **vars(plan.summary), **worker.explain())
    if options.compile:
        network.compile()
    if start == 0:
        worker.evaluate(0)
    stream = TrainingStream(
        training_index,
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
        index: Index,
        origin: dict[str, str],
    ) -> None:
        self.job, self.link, self.network, self.optimizer = job, link, network, optimizer
        self.origin = origin
        self.config = job.config
        self.index = index
        self.workers = Workers()
        self.device = next(network.parameters()).device
        self.loss = build_loss(self.config.loss)
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

    def explain(self) -> dict[str, str]:
        """How the step is computed, and why so."""
        return {"activations": self.activations, "activations_reason": self.reason}

    def run_steps(self, stream: TrainingStream, start: int) -> int:
        """Steps from ``start`` on; returns the number of steps done altogether."""
        config = self.config
        size, done, waiting = config.training.accumulate, start, Waiting(config.data)
        streamed = stream.batches(start * size, config.training.steps * size)
        with closing(on_device(streamed, self.device)) as batches:
            while done < config.training.steps:
                figures = self.one_step(done, batches, waiting)
                done += 1
                stop, replaced = self.agree(int(figures["replaced_images"]))
                self.post(kind="step", step=done, **figures | {"replaced_images": replaced})
                if stop:
                    break
                if done % config.evaluation.every_steps == 0 or done == config.training.steps:
                    self.evaluate(done)
                    self.post_similarities(done)
                if done % config.checkpoint.every_steps == 0:
                    self.save(done)
        self.save(done)
        return done

    def one_step(self, step: int, batches: Iterator[Batch], waiting: Waiting) -> dict[str, float]:
        """Move the weights by the mean gradient of the next batches; returns what is logged."""
        started = time.perf_counter()
        results, streamed = [], []
        for _ in range(self.config.training.accumulate):
            batch = next(batches)
            streamed.append(batch.figures)
            results.append(self.add_gradient(batch))
        self.diagnostics = results[-1].diagnostics
        if step == 0:
            self.post_similarities(1)
        self.update(step)
        seconds = time.perf_counter() - started
        own = total(streamed)
        if warning := waiting.note(own, seconds):
            logger.warning(warning)
        return {"seconds": seconds, **self.figures(step, results, seconds), **logged(own, seconds)}

    def add_gradient(self, batch: Batch) -> StepResult:
        """The three stages on one global batch."""
        return global_step(
            self.network,
            batch.images.to(self.device),  # another accelerator than CUDA
            batch.labels.to(self.device),
            self.step_options,
            step=batch.step,
        )

    def update(self, step: int) -> None:
        """Move the weights by the mean gradient of the batches of ``step``."""
        options, parameters = self.config.training, list(self.network.parameters())
        if options.accumulate > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(options.accumulate)
        # Gradients are reduced already, so every worker finds the same norm and decides alike.
        norm = whole(nn.utils.clip_grad_norm_(parameters, options.clip_norm or math.inf))
        if torch.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate_at(step, self.config)
            self.optimizer.step()
        else:
            logger.warning("step %d has a gradient that is not finite; skipped", step)
        self.optimizer.zero_grad()

    def evaluate(self, step: int) -> None:
        """Describe the evaluation split together, score it on worker 0, tell driver and Tune."""
        if not self.config.data.eval_split:
            return
        started = time.perf_counter()
        split = evaluation_images(self.index, self.config.data, self.config.training.seed)
        shards, size = shard_names(split), self.config.evaluation.batch_size
        own = shards[self.workers.rank :: self.workers.size]
        num_passes = self.workers.gather_numbers(num_batches(split, own, size), self.device)
        rows, descriptors = describe_images(
            self.network,
            split,
            image_size=self.config.data.image_size,
            batch_size=size,
            num_threads=self.config.data.num_decoders,
            shards=own,
            min_passes=max(num_passes) if is_sharded(self.network) else 0,
        )
        gathered = self._gather(rows, descriptors)
        metrics = {"step": float(step)}
        if self.workers.rank == 0:
            scores = score_labelled(gathered, torch.tensor(split.labels))
            metrics |= summary(scores)
            write_scores(scores, storage.join(self.job.run, evaluation_name(step)))
            seconds = time.perf_counter() - started
            self.post(kind="evaluation", **(metrics | {"step": step, "seconds": seconds}))
        self.job.report(metrics)

    def _gather(self, rows: NDArray[np.int64], descriptors: Tensor) -> Tensor:
        """All workers' descriptors in the order of the split, (n, d)."""
        sizes = self.workers.gather_numbers(len(rows), self.device)
        places = torch.from_numpy(rows).to(self.device)
        own = descriptors.to(self.device) if len(rows) else None
        gathered = self.workers.gather_descriptors(own, sizes, self.device).cpu()
        ordered = torch.empty_like(gathered)
        ordered[self.workers.gather_rows(places, sizes).cpu()] = gathered
        return ordered

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
        self.post(kind="checkpoint", step=step, uri=uri)

    def save_model(self, step: int) -> None:
        """Write the trained network into the run's folder."""
        state = {name: whole(value) for name, value in self.network.state_dict().items()}
        if self.workers.rank == 0:
            size = self.config.data.image_size
            model_id = save_model(self.network.config, state, size, self.job.run)
            self.post(kind="end", step=step, model_id=model_id)

    def agree(self, num_replaced: int) -> tuple[bool, int]:
        """Whether the driver asked for an end, and the images replaced on all workers."""
        asked = self.workers.rank == 0 and self.link.stop_requested()
        told = self.workers.sum(torch.tensor([int(asked), num_replaced], device=self.device))
        return bool(told[0] > 0), int(told[1])

    def figures(self, step: int, results: list[StepResult], seconds: float) -> dict[str, float]:
        """What is logged of a step: means over its batches."""

        def mean(values: Iterable[float]) -> float:
            return sum(values) / len(results)

        size = self.config.training.batch_size * len(results)
        loss = mean(r.loss for r in results)
        figures = {
            "loss": loss,
            "images_per_s": size / seconds,
            "learning_rate": learning_rate_at(step, self.config),
            "describe_s": sum(r.seconds[0] for r in results),
            "score_s": sum(r.seconds[1] for r in results),
            "backprop_s": sum(r.seconds[2] for r in results),
            "lone_queries": sum(r.diagnostics.num_lone_queries for r in results),
            "megabytes_received": sum(r.num_bytes for r in results) / 1e6,
        }
        if isinstance(self.loss, AveragePrecisionLoss):
            bins = self.loss.options
            figures["binned_map"] = 1 - loss
            figures["wrong_sign_share"] = mean(r.diagnostics.wrong_sign_share for r in results)
            for name in ("positive", "negative"):
                key = f"{name}_similarity"
                figures[key] = mean(r.diagnostics.mean_score(name, bins) for r in results)
        return figures

    def post_similarities(self, step: int) -> None:
        """Tell how similar the pairs of the last batch were, in shares by bin."""
        if self.diagnostics is None or not isinstance(self.loss, AveragePrecisionLoss):
            return
        kinds = ("positive", "negative")
        histograms = {kind: getattr(self.diagnostics, f"{kind}_histogram") for kind in kinds}
        self.post(
            kind="similarities",
            step=step,
            centres=bin_centres(self.loss.options).tolist(),
            **{kind: (h / h.sum().clamp(min=1)).tolist() for kind, h in histograms.items()},
        )

    def post(self, **event: Any) -> None:
        """Send an event from worker 0."""
        if self.workers.rank == 0:
            self.link.post(event)


def summary(scores: RetrievalScores) -> dict[str, float]:
    """The figures that are logged."""
    figures = {
        "map": scores.mean_average_precision,
        "r_precision": scores.r_precision,
        "num_queries": float(scores.num_queries),
    }
    return figures | {f"recall_at_{k}": value for k, value in scores.recall_at.items()}
