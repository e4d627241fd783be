"""How much memory there is, which chunk size and which activation mode fit into it.

Shapes: c images in a chunk, s side of an image in pixels, n images in the global batch, d
descriptor size.
"""

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from apdist.config import TrainingConfig
from apdist.model.pieces import fastest_size
from apdist.training.step.activations import Activations, saved_bytes
from apdist.training.step.batch_norm import ChunkStatistics
from apdist.training.step.chunks import chunk_counts, sizes_of_workers
from apdist.training.step.collectives import Workers
from apdist.training.step.failures import ShortageError, shortage_advice
from apdist.training.step.guard import Guard
from apdist.training.step.randomness import seeded
from apdist.training.step.recomputing import largest_block_bytes
from apdist.training.step.sharding import full_bytes, is_sharded

# Shares of the free memory that may be planned with. The rest is for what is not measured:
_USABLE_SHARE = 0.5
"""Of graphs; gradients, the workspace of convolutions and the reader come on top."""
_CHUNK_SHARE = 0.8
"""Of a chunk's pass on a GPU, which is measured with all that it takes."""
_GATHERED_SHARE = 0.25
"""Of full parameters that stay gathered during a whole step."""
_PASS_OVER_GRAPH = 2
"""A pass on a CPU is taken for so many times its graph: only that can be measured there."""
_PIECES_OF_A_CHUNK = 2
"""A CPU trains fastest with chunks of twice as many images as it describes fastest."""
_PROBED_SIZES = (4, 16)
"""Images in the two chunks from which the memory of any size is extrapolated."""
_MULTIPLE = 8
"""Chunk sizes above it are rounded down to multiples of it."""
_GIB = 1 << 30


class MemoryProbe:
    """Finds out what fits into memory, by sending blank chunks (c, 3, s, s) through a network.

    Args:
        network: as it will be trained.
        image_size: s.
        config: of the training.
        workers: all of them; each calls the same methods.
    """

    def __init__(
        self, network: nn.Module, image_size: int, config: TrainingConfig, workers: Workers
    ) -> None:
        self.network, self.image_size = network, image_size
        self.config, self.workers = config, workers
        self.device = next(network.parameters()).device

    def gathers_once(self) -> bool:
        """Whether a sharded network's full parameters and their gradients fit beside all else."""
        return is_sharded(self.network) and self._gathered_bytes <= self._free(_GATHERED_SHARE)

    def choose_activations(self) -> tuple[Activations, str]:
        """The mode for a run and the reason for it, the same on every worker.

        ``auto`` measures what the graph of a chunk holds, and stores the graphs if those of all
        chunks fit; else it computes twice.
        """
        config, workers = self.config, self.workers
        if config.activations != "auto":
            return config.activations, "as configured"
        size = min(config.images_at_once, config.batch_size)
        a_chunk = self._measured(size, saved_bytes)
        sizes = sizes_of_workers(config.batch_size, size, workers.size)
        num_chunks = max(chunk_counts(sizes, size))
        needed = max(workers.gather_numbers(a_chunk * num_chunks, self.device))
        budget = self._budget(_USABLE_SHARE)
        reason = (
            f"the graphs of {num_chunks} chunk{'s' * (num_chunks > 1)} of {size} images hold "
            f"{needed / _GIB:.2f} GiB a worker, {budget / _GIB:.2f} GiB may be used"
        )
        return ("store" if needed <= budget else "recompute"), reason

    def choose_chunk_size(self) -> tuple[int, str]:
        """The largest chunk that fits into each worker, and why; the same on every worker.

        On a CPU no larger one than it computes fast: memory that the system must clear for each
        layer costs more than chunks do.

        What two small chunks take, forwards and backwards, tells what one of any size does; on a
        GPU the one found is tried, and halved while it does not fit.
        """
        most = -(-self.config.batch_size // self.workers.size)
        if most == 1:
            return 1, "every worker has one image"
        small, large = (
            min(size, most) for size in (min(_PROBED_SIZES[0], most - 1), _PROBED_SIZES[1])
        )
        least = self._measured(small, self._pass_bytes)
        width = self._measured(small, _width)
        slope = max(1, (self._measured(large, self._pass_bytes) - least) // (large - small))
        on_gpu = self.device.type == "cuda"
        resident = 8 * self.config.batch_size * width  # descriptors and their gradient
        resident += 2 * sum(p.nbytes for p in self.network.parameters() if p.requires_grad)  # Adam
        budget = self._budget(_CHUNK_SHARE if on_gpu else _USABLE_SHARE, resident)
        fits = min(most, max(1, small + (budget - least) // slope))
        fits = min(self.workers.gather_numbers(fits, self.device))
        side = self.image_size
        size = fits if on_gpu else min(fits, _PIECES_OF_A_CHUNK * fastest_size(side, side))
        is_less = size < fits
        if _MULTIPLE < size < most:
            size -= size % _MULTIPLE
        while on_gpu and size > 1:
            try:
                self._measured(size, self._pass_bytes)
                break
            except ShortageError:
                size //= 2
        reason = (
            f"an image takes {slope / 2**20:.1f} MiB in a pass, {budget / _GIB:.2f} GiB may be used"
        )
        if is_less:
            reason += "; a CPU computes larger chunks more slowly"
        return size, reason

    def _measured(self, size: int, bytes_of: Callable[[nn.Module, Tensor], int]) -> int:
        """What ``bytes_of`` finds of a blank chunk of so many images.

        Raises:
            ShortageError: it does not fit, on any worker.
        """
        advice = shortage_advice(size, "recompute")
        guard = Guard(self.workers, self.device, f"of {size} images", advice)
        side, found = self.image_size, 0
        with (
            guard("on a trial chunk"),
            seeded(0, self.device),
            ChunkStatistics(self.network).recording(),
            torch.autocast(self.device.type, torch.bfloat16, self.config.precision == "bf16"),
        ):
            blank = torch.zeros((size, 3, side, side), dtype=torch.uint8, device=self.device)
            found = bytes_of(self.network, blank)
        guard.meet()
        return found

    def _budget(self, share: float, resident: int = 0) -> int:
        """Bytes that every worker may use, beside what will be ``resident``."""
        if told := int(self.config.memory_gib * _GIB):
            return told
        gathered = self._gathered_bytes if self.gathers_once() else 0
        return self._free(share, resident + gathered)

    def _free(self, share: float, resident: int = 0) -> int:
        """That share of what is free on every worker, beside what will be ``resident``."""
        free = free_bytes(self.device, self.workers.size) - resident
        return min(self.workers.gather_numbers(int(share * free), self.device))

    @property
    def _gathered_bytes(self) -> int:
        return full_bytes(self.network)

    def _pass_bytes(self, network: nn.Module, images: Tensor) -> int:
        """Memory that ``images`` (c, 3, s, s) take on their way through ``network`` and back."""
        if self.device.type != "cuda":
            graph = saved_bytes(network, images) + largest_block_bytes(network, images)
            return _PASS_OVER_GRAPH * graph
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            with torch.enable_grad():
                network(images).sum().backward()
            return torch.cuda.max_memory_allocated(self.device) - before
        finally:
            network.zero_grad()


def _width(network: nn.Module, images: Tensor) -> int:
    """Numbers of a descriptor of ``images`` (c, 3, s, s)."""
    with torch.no_grad():
        return int(network(images).shape[1])


def free_bytes(device: torch.device, num_workers: int) -> int:
    """Memory that one worker may count on: of its GPU, or its part of this machine's."""
    if device.type == "cuda":
        # What its allocator holds and does not use is free, too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + held
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
