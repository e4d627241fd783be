"""What a loss learns itself, as the centres of classes: moved, and kept in checkpoints.

It is no part of the network: not of its clipped norm, not of what FSDP2 divides, not of the saved
model. Every worker holds all of it.
"""

import copy
import logging
from typing import Any

import torch
from torch import nn

from apdist.config import Config
from apdist.loss.batch_loss import BatchLoss, parameters_of
from apdist.training.learning.optimizers import FACTOR, build_optimizer, move
from apdist.training.learning.parameter_groups import ParameterGroup
from apdist.training.step.collectives import Workers

logger = logging.getLogger(__name__)


class LossParameters:
    """The parameters of a loss, with an optimiser of the network's kind.

    Args:
        loss: may have none.
        config: of the training.
        workers: each gets those of worker 0.
    """

    def __init__(self, loss: BatchLoss, config: Config, workers: Workers) -> None:
        self.loss, self.config = loss, config
        self.parameters = parameters_of(loss)
        self.optimizer: torch.optim.Optimizer | None = None
        if isinstance(loss, nn.Module) and self.parameters:
            workers.broadcast_state(loss)
            factor, decay = config.loss.rate_of_centres, config.training.weight_decay
            group = ParameterGroup(self.parameters, factor, decay)
            self.optimizer = build_optimizer([group], config.training)

    def update(self, learning_rate: float) -> None:
        """Move them by the mean gradient of the batches of a step, at the network's rate."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self.optimizer is None or not all(bool(g.isfinite().all()) for g in gradients):
            return
        for gradient in gradients:
            gradient.div_(self.config.training.accumulate)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group[FACTOR]
        move(self.optimizer)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Copies of what the loss keeps, and of its optimiser, on the CPU; often empty."""
        if not isinstance(self.loss, nn.Module) or not (own := self.loss.state_dict()):
            return {}
        kept = self.optimizer.state_dict() if self.optimizer else {}
        return {"loss": _on_cpu(own), "optimizer": _on_cpu(kept)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; of another loss, or other classes: begin anew."""
        mine = self.state_dict()
        if not mine:
            return
        if not state or not _fits(state["loss"], mine["loss"]):
            logger.warning(
                "the checkpoint has no centres for classes and sizes of loss %s: they begin anew",
                self.config.loss.shown,
            )
            return
        assert isinstance(self.loss, nn.Module)
        self.loss.load_state_dict(state["loss"])
        if self.optimizer:
            self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))


def _on_cpu(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: _on_cpu(value) for key, value in state.items()}
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state


def _fits(found: dict[str, Any], mine: dict[str, Any]) -> bool:
    """Whether names, shapes and classes are the same."""
    return found.keys() == mine.keys() and all(
        torch.equal(found[name], value)
        if name.endswith("classes")
        else found[name].shape == value.shape
        for name, value in mine.items()
    )
