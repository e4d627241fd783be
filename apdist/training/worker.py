"""What every worker of a run does: get ready, go on from the newest checkpoint, train."""

import socket
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import nn

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.catalogue.selection import training_images
from apdist.data.decoders import resolved
from apdist.data.plan.batch_sampler import build_plan
from apdist.loss.building import build_loss
from apdist.model.traits import refuse_side
from apdist.training.job import Job
from apdist.training.learning.averaging import RunningMean
from apdist.training.learning.freezing import build_trainable
from apdist.training.learning.learner import Learner
from apdist.training.learning.linear_start import start_linear
from apdist.training.learning.loss_parameters import LossParameters
from apdist.training.learning.optimizers import build_optimizer
from apdist.training.learning.parameter_groups import parameter_groups
from apdist.training.loop import Loop, TrainingData
from apdist.training.machine import sampled
from apdist.training.mailbox import Link
from apdist.training.regrouping import never_preempted
from apdist.training.run_folder.keeper import Keeper
from apdist.training.sizing import sized
from apdist.training.step.collectives import Workers
from apdist.training.step.randomness import seeded
from apdist.training.step.sharding import compile_blocks, shard_parameters


def train(
    job: Job,
    link: Link,
    device: torch.device,
    preemption_notice: Callable[[], str] = never_preempted,
) -> None:
    """Train until the last step or until the driver asks to stop.

    Args:
        job: what every worker of the run gets.
        link: to the driver.
        device: to compute on.
        preemption_notice: why this worker is about to be preempted, in words; empty: it is not.

    Raises:
        Regrouped: a checkpoint is written, and others are to go on.
        ValueError: data, options or the checkpoint cannot be used, or another process trains now.
    """
    config, options = job.config, job.config.training
    workers = Workers()
    keeper = Keeper(job.run, job.lease, link, workers, config.checkpoint.keep)
    refuse_other_decoders(config.data.decoder, workers, device)
    keeper.begin("loading weights")
    torch.manual_seed(options.seed)
    network = build_trainable(config.model, config.lora, config.training).to(device).train()
    refuse_side(config.model.backbone, network.traits, config.data.image_size)
    workers.broadcast_state(network)
    if options.parameters == "sharded":
        shard_parameters(network, device, workers.size, bf16=_is_always_bf16(config))
    optimizer = build_optimizer(parameter_groups(network, options), options)
    keeper.begin("reading the catalogue")
    catalogue = read_catalogue(config.data.shards)
    training_catalogue = training_images(catalogue, config.data, options.seed)
    plan = build_plan(training_catalogue.labels, config)
    with seeded(options.seed, device):
        built = build_loss(config.loss, training_catalogue.labels, network.dim)
    if isinstance(built, nn.Module):
        built.to(device)
    loss = LossParameters(built, config, workers)
    keeper.begin("measuring memory")
    sizing = sized(config, job.run, network, workers)
    data = TrainingData(training_catalogue, plan, training_catalogue.fingerprint())
    keeper.begin("looking for a checkpoint")
    learner = Learner(network, optimizer, RunningMean(network, options.ema), loss)
    origin = data.origin(config, sizing)
    start = keeper.restore(network, optimizer, origin, device, learner.parts)
    if start == 0 and config.model.init != "random":
        keeper.begin("learning the start of the linear layer")
        sized_config = override(config, {"training.chunk_size": sizing.chunk_size})
        stopped = link.stop_requested
        if not start_linear(network, training_catalogue, plan, sized_config, workers, stopped):
            return
    loop = Loop(job, keeper, learner, catalogue, data, sizing, preemption_notice)
    hosts = loop.announce(start)
    if start == 0:
        for notice in loop.judge.of_batch(
            training_catalogue.labels[plan.rows(0)].tolist(), plan.summary
        ):
            keeper.post(notice)
    if options.compile:
        compile_blocks(network)
    samples = config.tracking.enabled and hosts.index(hosts[workers.rank]) == workers.rank
    with keeper.written_at_the_end(), sampled(link) if samples else nullcontext():
        done = loop.run_steps(start)
        if loop.is_done(done):
            loop.finish(done)


def _is_always_bf16(config: Config) -> bool:
    """Whether the network only ever runs under bf16 autocast."""
    return config.training.precision == "bf16" == config.evaluation.precision


def refuse_other_decoders(decoder: str, workers: Workers, device: torch.device) -> None:
    """Raise on all workers where one of them lacks ``decoder``; all must call it.

    Raises:
        ValueError: it is not there, or in other versions.
    """
    try:
        mine = resolved(decoder)
    except ValueError as error:
        mine = f"!{socket.gethostname()}: {error}"
    told = workers.gather_texts(mine, device)
    for refusal in (text[1:] for text in told if text.startswith("!")):
        raise ValueError(refusal)
    if len(set(told)) > 1:
        raise ValueError(
            f"data.decoder {decoder} is another one on each worker: {', '.join(sorted(set(told)))}"
            "; install the same versions on all, or use --data.decoder pillow"
        )
