"""All that moves while a training goes on."""

from dataclasses import dataclass

import torch

from apdist.model.descriptor import DescriptorNet
from apdist.training.learning.averaging import RunningMean
from apdist.training.learning.loss_parameters import LossParameters
from apdist.training.run_folder.checkpoint import StatePart


@dataclass(frozen=True)
class Learner:
    """A network in training, with what belongs to it."""

    network: DescriptorNet
    optimizer: torch.optim.Optimizer
    """Of the network."""
    mean: RunningMean
    """Of the network's weights."""
    loss: LossParameters
    """The loss, and what it learns itself."""

    @property
    def parts(self) -> dict[str, StatePart]:
        """What checkpoints keep beside network and optimiser, by name."""
        return {"mean": self.mean, "loss": self.loss}
