"""Where the Ray of a training is, and whether it has room for the workers."""

import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from apdist.config import RayConfig
from apdist.config.run import AUTO
from apdist.training.cluster.address import refuse_if_nobody_listens

WITHOUT_GPUS = 2
"""Workers of auto where no GPU is: more would share the same CPUs."""


def address_of(config: RayConfig) -> str:
    """``local`` where Ray is started on this machine, else the cluster that is joined."""
    # In a job that was submitted to a cluster Ray says there where that cluster is.
    in_job = config.address == "local" and os.environ.get("RAY_ADDRESS")
    return "auto" if in_job else config.address


def refuse_at_once(config: RayConfig) -> None:
    """What can be known in a moment, with nothing started and no Ray imported.

    Raises:
        ValueError: this machine is too small for the workers, or nobody listens at the address.
    """
    ray: Any = sys.modules.get("ray")
    if config.most_workers == 0 or (ray and ray.is_initialized()):  # a caller's own is looked at
        return
    if (address := address_of(config)) != "local":
        refuse_if_nobody_listens(address)
    else:  # the most that Ray can find here
        refuse_if_too_small(config, [{"CPU": os.cpu_count() or 1, "GPU": math.inf}])


def refuse_if_too_small(config: RayConfig, nodes: list[dict[str, float]]) -> None:
    """Compare what the workers need with what the nodes have.

    Raises:
        ValueError: it would wait for ever.
    """
    if config.autoscaling:
        return
    needs = _needs(config, config.use_gpu == "yes")
    if config.least_workers > (room := room_on(needs, nodes)):
        each = " and ".join(f"{n} {kind}{'s' if n > 1 else ''}" for kind, n in needs.items())
        less = "--ray.use-gpu no" if "GPU" in needs else "fewer --ray.cpus-per-worker"
        remedy = "fewer" if room >= 1 else less
        raise ValueError(
            f"ray.num_workers is {config.num_workers}, each with {each}; the cluster has room for "
            f"{room:g}: use {remedy}, or --ray.autoscaling if it grows"
        )


def with_number(
    config: RayConfig, nodes: list[dict[str, float]], most: float = math.inf
) -> RayConfig:
    """``config`` with the number of workers that auto stands for on a cluster of such ``nodes``.

    Args:
        config: of the workers.
        nodes: what each has.
        most: GPUs that it may take; at least one is taken, or waited for.
    """
    if config.num_workers != AUTO:
        return config
    gpus = 0 if config.use_gpu == "no" else int(room_on(_needs(config, True), nodes))
    if gpus or config.use_gpu == "yes":
        number = int(max(1, min(gpus, most)))
    elif config.autoscaling:
        number = WITHOUT_GPUS
    else:
        number = min(WITHOUT_GPUS, max(1, int(room_on(_needs(config, False), nodes))))
    return replace(config, num_workers=number)


def uses_gpus(config: RayConfig, nodes: list[dict[str, float]]) -> bool:
    """Whether each worker gets a GPU: on a cluster of such ``nodes``, or in this process."""
    if config.use_gpu != "auto":
        return config.use_gpu == "yes"
    if config.most_workers == 0:
        import torch

        return torch.cuda.is_available()
    return config.least_workers <= room_on(_needs(config, True), nodes)


def gpus_of(nodes: list[dict[str, float]]) -> int:
    """How many GPUs they have together."""
    return round(sum(node.get("GPU", 0) for node in nodes))


def _needs(config: RayConfig, with_gpu: bool) -> dict[str, int]:
    """Ray resources that a worker takes."""
    return {"CPU": config.cpus_per_worker} | ({"GPU": 1} if with_gpu else {})


def room_on(needs: Mapping[str, float], nodes: Iterable[Mapping[str, float]]) -> float:
    """How many workers fit."""
    # A worker lives on one node: two nodes with one CPU each have no room for a worker with two.
    return sum(min(node.get(kind, 0) // n for kind, n in needs.items()) for node in nodes)
