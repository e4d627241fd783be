"""How much memory there is, and which activation mode fits into it.

Shapes: c images in a chunk, s side of an image in pixels.
"""

import os
from pathlib import Path

import torch
from torch import nn

from apdist.config import TrainingConfig
from apdist.training.step.activations import Activations, saved_bytes
from apdist.training.step.batch_norm import ChunkStatistics
from apdist.training.step.chunks import chunk_counts, sizes_of_workers
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import shortage_advice
from apdist.training.step.guard import Guard
from apdist.training.step.randomness import seeded

# Gradients, the workspace of convolutions and the reader want their part.
_USABLE_SHARE = 0.5
_GIB = 1 << 30


def choose_activations(
    network: nn.Module, image_size: int, config: TrainingConfig, workers: Workers
) -> tuple[Activations, str]:
    """The mode for a run and the reason for it, the same on every worker.

    ``auto`` sends one blank chunk (c, 3, s, s) through the network, measures what its graph holds,
    and stores the graphs if those of all chunks fit; else it computes twice.
    """
    if config.activations != "auto":
        return config.activations, "as configured"
    device = next(network.parameters()).device
    size = min(config.chunk_size, config.batch_size)
    blank = torch.zeros((size, 3, image_size, image_size), dtype=torch.uint8, device=device)
    advice = shortage_advice(config.chunk_size, "recompute")
    guard = Guard(workers, device, f"of {size} images", advice)
    a_chunk = 0
    with (
        guard("on a trial chunk"),
        seeded(0, device),
        ChunkStatistics(network).recording(),
        torch.autocast(device.type, torch.bfloat16, config.precision == "bf16"),
    ):
        a_chunk = saved_bytes(network, blank)
    guard.meet()
    sizes = sizes_of_workers(config.batch_size, config.chunk_size, workers.size)
    num_chunks = max(chunk_counts(sizes, config.chunk_size))
    needed = max(workers.gather_numbers(a_chunk * num_chunks, device))
    there = int(config.memory_gib * _GIB) or int(_USABLE_SHARE * free_bytes(device, workers.size))
    budget = min(workers.gather_numbers(there, device))
    reason = (
        f"the graphs of {num_chunks} chunks of {size} images hold {needed / _GIB:.2f} GiB a "
        f"worker, {budget / _GIB:.2f} GiB may be used"
    )
    return ("store" if needed <= budget else "recompute"), reason


def free_bytes(device: torch.device, num_workers: int) -> int:
    """Memory that one worker may count on: of its GPU, or its part of this machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min(_machine_bytes(), _container_bytes()) // num_workers


def _machine_bytes() -> int:
    info = Path("/proc/meminfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _container_bytes() -> int:
    """What a container's limit leaves; without one, all there could be."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = int((root / "memory.max").read_text())
        return limit - int((root / "memory.current").read_text())
    except (OSError, ValueError):  # no limit ("max"), or another kind of system
        return 1 << 62
