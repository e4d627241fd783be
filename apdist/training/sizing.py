"""How many images go through the network at once, and what is kept of them: found once a run.

The first worker that measures decides for all that come after it: the driver writes the number into
the run's config.json, where workers that start again read it.
"""

from dataclasses import dataclass

import torch

from apdist.config import Config, from_json, override
from apdist.data import storage
from apdist.model.descriptor import DescriptorNet
from apdist.training.run_folder.runs import CONFIG_NAME
from apdist.training.step.activations import Activations
from apdist.training.step.collectives import Workers
from apdist.training.step.memory import MemoryProbe


@dataclass(frozen=True, kw_only=True)
class Sizing:
    """What was found, and why."""

    chunk_size: int
    chunk_size_reason: str
    """Empty where it was configured, or found before."""
    activations: Activations
    activations_reason: str
    gathered_once: bool
    """Sharded parameters are gathered once a stage, not for every chunk."""

    @property
    def may_shrink(self) -> bool:
        """Whether a chunk that does not fit may be made smaller: it was found here and now."""
        return bool(self.chunk_size_reason) and self.chunk_size > 1


def sized(config: Config, run: str, network: DescriptorNet, workers: Workers) -> Sizing:
    """The sizes for a run, the same on every worker; all must call it.

    Args:
        config: of the run.
        run: URI of its folder.
        network: as it will be trained.
        workers: who trains it.

    Raises:
        ShortageError: a few images do not fit.
    """
    device, reason = next(network.parameters()).device, ""
    known = workers.broadcast_number(_known(config, run) if workers.rank == 0 else 0, device)
    if not known:
        probe = MemoryProbe(network, config.data.image_size, config.training, workers)
        known, reason = probe.choose_chunk_size()
    return with_chunk_size(config, known, reason, network, workers)


def with_chunk_size(
    config: Config, size: int, reason: str, network: DescriptorNet, workers: Workers
) -> Sizing:
    """What is kept of chunks of ``size`` images; ``reason`` for that size."""
    training = override(config, {"training.chunk_size": size}).training
    probe = MemoryProbe(network, config.data.image_size, training, workers)
    activations, why = probe.choose_activations()
    if next(network.parameters()).device.type == "cuda":
        torch.cuda.empty_cache()  # blocks of other sizes than training will ask for
    return Sizing(
        chunk_size=size,
        chunk_size_reason=reason,
        activations=activations,
        activations_reason=why,
        gathered_once=probe.gathers_once(),
    )


def _known(config: Config, run: str) -> int:
    """The chunk size as configured, or as workers before these have found it; else 0."""
    size, written = config.training.chunk_size, storage.join(run, CONFIG_NAME)
    if size == "auto" and storage.exists(written):
        size = from_json(storage.read_bytes(written).decode()).training.chunk_size
    return 0 if size == "auto" else size
