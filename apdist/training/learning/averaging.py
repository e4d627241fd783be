"""Weights beside those that the steps of a training move: their running mean, and blends.

A blend lies between the weights at the start and the trained ones.

All of it works on a worker's local parts of the parameters, so nothing is communicated, and the
parameters may be sharded over the workers. Buffers, such as batch norm's statistics, stay as they
are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from apdist.training.step.sharding import local_part, reshard
from apdist.training.step.states import load_network_state, network_state


class RunningMean:
    """Mean of a network's parameters over its steps, the last ones most (an EMA).

        mean <- keep mean + (1 - keep) weights        keep = min(ema, (1 + t) / (10 + t)) at step t

    so that the first steps, which start from nothing, are soon forgotten.

    Args:
        network: whose parameters it follows, those that are trainable now.
        ema: what is kept at each step; 0: there is no mean, and the weights themselves are shown.
    """

    def __init__(self, network: nn.Module, ema: float) -> None:
        self.network, self.ema = network, ema
        # All from the first step on, trained already or frozen until later: so a run that goes on
        # has the means that it would have had.
        self._names = {name for name, p in network.named_parameters() if p.requires_grad}
        self._means: dict[str, Tensor] = {}

    def after_step(self, num_steps: int) -> None:
        """Take in the weights after ``num_steps`` steps."""
        if not self.ema:
            return
        if not self._means:
            self.follow()
        moved = local_parameters(self.network)
        keep = min(self.ema, (1 + num_steps) / (10 + num_steps))
        weights = [moved[name] for name in self._means]
        torch._foreach_lerp_(list(self._means.values()), weights, 1 - keep)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The network has the mean in the block, and afterwards its weights again."""
        with _exchanged(self.network, self._means):
            yield

    def state_dict(self) -> dict[str, Any]:
        """The network's full state with the mean for its weights; all workers must call it."""
        if not self._means:
            return {}
        with self.shown():
            return network_state(self.network)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; the network keeps its own."""
        if not self.ema or not state:
            return
        own = {name: part.clone() for name, part in local_parameters(self.network).items()}
        load_network_state(self.network, state)
        self.follow()
        for name, part in local_parameters(self.network).items():
            part.copy_(own[name])

    def follow(self) -> None:
        """Begin anew with the weights that the network has now."""
        if self.ema:
            parts = local_parameters(self.network).items()
            self._means = {name: part.clone() for name, part in parts if name in self._names}


class WeightBlends:
    """A network with blends of its weights at the start and those it has now.

        start + blend (weights - start)

    Wortsman et al., CVPR 2022 (WiSE-FT): such a blend keeps more of what a pretrained network knew.

    Args:
        network: whose parameters it moves.
        blends: each in [0, 1]: 0 is the start, 1 the weights as they are; empty: only 1.
        start: as `local_parameters` gives them; empty where no blend needs them.
    """

    def __init__(
        self, network: nn.Module, blends: tuple[float, ...], start: dict[str, Tensor]
    ) -> None:
        self.network, self.values = network, blends or (1.0,)
        # An adapter is a product B A, and B starts at 0: to blend B alone blends the product.
        self._start = {name: part for name, part in start.items() if ".lora_A." not in name}

    def network_of_all(self) -> nn.Module:
        """A network whose descriptors (b, k d) are those of the k blends, side by side.

        It reads the weights when it is built: build it where the weights are as they shall be
        measured.
        """
        return self.network if self.values == (1.0,) else _AllBlends(self)

    @contextmanager
    def shown(self, blend: float) -> Iterator[None]:
        """The network has the weights of that blend in the block, and afterwards its own again."""
        if blend == 1.0:
            yield
            return
        with _exchanged(self.network, self.parts(blend, local_parameters(self.network))):
            yield

    def parts(self, blend: float, trained: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a blend, those that differ from the trained ones."""
        return {
            name: torch.lerp(self._start[name], part, blend)
            for name, part in trained.items()
            if name in self._start
        }


class _AllBlends(nn.Module):
    """Describes images with the weights of every blend; each batch is read and decoded once."""

    def __init__(self, blends: WeightBlends) -> None:
        super().__init__()
        self.network, self._blends = blends.network, blends
        self._trained = {name: p.clone() for name, p in local_parameters(blends.network).items()}

    def forward(self, images: Tensor) -> Tensor:
        """Descriptors (b, k d) of ``images`` (b, 3, h, w)."""
        found = []
        for blend in self._blends.values:
            with _exchanged(self.network, self._blends.parts(blend, self._trained)):
                found.append(self.network(images))
        return torch.cat(found, dim=1)


def local_parameters(network: nn.Module) -> dict[str, Tensor]:
    """This worker's part of each parameter, by name; writing into them moves the weights."""
    reshard(network)
    with torch.no_grad():
        return {name: local_part(p).detach() for name, p in network.named_parameters()}


@contextmanager
def _exchanged(network: nn.Module, shown: dict[str, Tensor]) -> Iterator[None]:
    """The parameters have the values ``shown`` in the block, and their own afterwards."""
    parts = local_parameters(network)
    own = {name: parts[name].clone() for name in shown}
    with torch.no_grad():
        for name, value in shown.items():
            parts[name].copy_(value)
        try:
            yield
        finally:
            for name, value in own.items():
                parts[name].copy_(value)
