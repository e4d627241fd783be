"""The Ray Train trainer of a job, and what runs in each of its workers."""

import functools
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from apdist.config import Config, RayConfig
from apdist.config.run import AUTO
from apdist.data import storage
from apdist.training.cluster.elastic import (
    elastic_trainer,
    free_gpus,
    group_watcher,
    policies,
    preemption_notice,
)
from apdist.training.cluster.joining import prepare_environment, resources_of_nodes
from apdist.training.cluster.own_ray import is_on_loopback
from apdist.training.cluster.room import address_of, gpus_of, uses_gpus, with_number
from apdist.training.events import Failed
from apdist.training.job import Job
from apdist.training.mailbox import Link, WarningForwarder
from apdist.training.regrouping import never_preempted
from apdist.training.run_folder.runs import RAY

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

    from apdist.training.finalists import Finalists

logger = logging.getLogger(__name__)

PROCESS_GROUP_TIMEOUT_S = 300


def may_lose_a_host(stays_here: bool) -> bool:
    """Whether notices of hosts that are taken back are listened for: a process more a training.

    Nobody takes the only host back, which is this machine. Several on one may be drained.

    Args:
        stays_here: whether the cluster is heard on this machine alone.
    """
    return not stays_here or len(resources_of_nodes()) > 1


def build_trainer(job: "Job | Finalists", link: Link, work: Callable[..., None]) -> "TorchTrainer":
    """The Ray Train v2 trainer of ``job``.

    Args:
        job: what its workers get.
        link: to the driver.
        work: what they do, a function of a module: of job, link, device and a function
            that gives this worker's preemption notice.
    """
    prepare_environment()
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from apdist.training.cluster.rendezvous import LoopbackTorchConfig, PartingTorchConfig

    # Ray says at INFO that it has no workers, and where to report problems; that is our own choice.
    logging.getLogger("ray.train.v2.api.config").setLevel(logging.WARNING)
    job = _with_number_of_workers(job)
    config: Config = job.config
    resources: dict[str, float] = {"CPU": config.ray.cpus_per_worker}
    if with_gpus := _with_gpus(config.ray):
        resources["GPU"] = 1
    stays_here = config.ray.most_workers > 0 and is_on_loopback()
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = str(int(may_lose_a_host(stays_here)))
    path, filesystem = storage.for_ray(job.run)
    scaling = ScalingConfig(
        num_workers=config.ray.most_workers,  # of a range as well: our own policy decides
        use_gpu=with_gpus,
        resources_per_worker=resources,
    )
    failure = FailureConfig()
    trainer: TorchTrainer = elastic_trainer()(
        functools.partial(run_worker, job, link, work, with_gpus),
        policies=policies(config.ray, link, scaling, failure, job.is_trial),
        scaling_config=scaling,
        run_config=RunConfig(
            name=RAY,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=failure,
            callbacks=[group_watcher(link)],
        ),
        torch_config=(LoopbackTorchConfig if stays_here else PartingTorchConfig)(
            # How it went is told from CPU to CPU: no worker waits for a GPU to say so.
            backend="cpu:gloo,cuda:nccl" if with_gpus else "gloo",
            timeout_s=PROCESS_GROUP_TIMEOUT_S,
        ),
    )
    return trainer


def _with_number_of_workers(job: "Job | Finalists") -> "Job | Finalists":
    """``job`` with the number that auto stands for.

    Raises:
        ValueError: its parameters cannot be sharded over so few.
    """
    config = job.config
    if config.ray.num_workers != AUTO:
        return job
    # Other trials take the other GPUs.
    most = 1 if isinstance(job, Job) and job.is_trial else free_gpus(config.ray)
    workers = with_number(config.ray, resources_of_nodes(), most)
    return replace(job, config=replace(config, ray=workers))


def _with_gpus(config: RayConfig) -> bool:
    """Whether each worker gets a GPU.

    Raises:
        ValueError: there is none in this process, where it is to be used.
    """
    nodes = resources_of_nodes() if config.most_workers else []
    found = uses_gpus(config, nodes)
    if found and config.most_workers == 0:
        import torch

        if not torch.cuda.is_available():
            raise ValueError(
                f"ray.use_gpu is {config.use_gpu}, and torch {torch.__version__} finds no GPU in "
                "this process; install its CUDA build, or use --ray.use-gpu no"
            )
    idle = gpus_of(nodes)
    if idle and not found and config.use_gpu == "auto" and address_of(config) != "local":
        logger.warning(
            "the cluster has too few GPUs, %d, for %d workers with %d CPUs each, so that CPUs "
            "compute; to use them: --ray.num-workers %d",
            *(idle, config.least_workers, config.cpus_per_worker, idle),
        )
    return found


def run_worker(
    job: "Job | Finalists", link: Link, work: Callable[..., None], with_gpu: bool
) -> None:
    """What Ray Train runs in each worker process."""
    import torch
    from ray.train import get_context
    from ray.train.torch import get_device

    from apdist.training.numerics import numerics
    from apdist.training.step.sharding import release_process_groups

    forwarder = WarningForwarder(link, get_context().get_world_rank())
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    package = logging.getLogger("apdist")
    package.addHandler(forwarder)
    package.propagate = False
    threads = torch.get_num_threads()
    if job.config.ray.most_workers:
        torch.set_num_threads(job.config.ray.cpus_per_worker)
    try:
        with numerics(job.config.training):
            # Ray gives what trains in its own process a GPU unasked.
            device = torch.device(get_device()) if with_gpu else torch.device("cpu")
            work(
                job,
                link,
                device,
                preemption_notice if job.config.ray.most_workers else never_preempted,
            )
    except (ValueError, OSError) as error:
        # Bad input fails on every attempt: the driver ends the run instead of trying again.
        link.post(Failed(text=str(error)))
        raise
    finally:
        package.removeHandler(forwarder)
        package.propagate = True
        torch.set_num_threads(threads)
        release_process_groups()
