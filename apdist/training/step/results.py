"""What a training step found.

Shapes: b images of this worker.
"""

from dataclasses import dataclass

from torch import Tensor

from apdist.loss.results import Diagnostics


@dataclass(frozen=True)
class StepResult:
    """What a step found; the gradient itself is in ``.grad`` of the parameters."""

    loss: float
    """Of the global batch, the same on every worker; 1 - binned mAP."""
    average_precision: Tensor
    """(b,) binned AP of the own queries; NaN where undefined, and for any other loss."""
    diagnostics: Diagnostics
    """Counts and histograms of the global batch, the same on every worker."""
    seconds: tuple[float, float, float]
    """Of the three stages."""
    num_bytes: int
    """Received by this worker; without those of sharded parameters."""
