"""What a training step found.

Shapes: b images of this worker.
"""

from dataclasses import dataclass

from torch import Tensor

from apdist.loss.results import Diagnostics


@dataclass(frozen=True)
class StageSeconds:
    """Seconds of a step by its stages; on a GPU the time that it worked or waited for others."""

    describe: float
    """Stage 1."""
    gather: float
    """Descriptors from the other workers."""
    score: float
    """Stage 2."""
    backprop: float
    """Stage 3."""
    reduce: float
    """Gradients summed over the workers, statistics of batch norm."""

    @property
    def exchange(self) -> float:
        """What several workers take more than one."""
        return self.gather + self.reduce


@dataclass(frozen=True)
class StepResult:
    """What a step found; the gradient itself is in ``.grad`` of the parameters."""

    loss: float
    """Of the global batch, the same on every worker; of the listwise loss 1 - binned mAP."""
    listwise_loss: float | None
    """Of the listwise loss, alone or as a term of a sum; None without one."""
    term_losses: tuple[float, ...]
    """Of each term of a sum without its weight, of each part of a `Matryoshka`."""
    average_precision: Tensor
    """(b,) binned AP of the own queries; NaN where undefined, and for any other loss."""
    diagnostics: Diagnostics
    """Counts and histograms of the global batch, the same on every worker."""
    seconds: StageSeconds
    """Time of its stages."""
    num_bytes: int
    """Received by this worker; without those of sharded parameters."""
