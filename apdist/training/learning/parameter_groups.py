"""Groups of parameters with a learning rate and a weight decay of their own.

A group's factor multiplies the learning rate of the step: by the depth of its layer, and by
patterns of names. What is added to an optimiser beside the network's parameters is one more group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from apdist.config import TrainingConfig
from apdist.config.values import pattern_factors
from apdist.model.names import fits, plain_name, refuse_unknown
from apdist.training.step.sharding import blocks_of

BACKBONE = "backbone."


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that move by one rule."""

    parameters: Sequence[nn.Parameter]
    factor: float = 1.0
    """Of the learning rate of each step."""
    weight_decay: float = 0.0


def parameter_groups(network: nn.Module, options: TrainingConfig) -> list[ParameterGroup]:
    """The trainable parameters of ``network`` in groups, none of them empty; in a fixed order.

    Raises:
        ValueError: a pattern of ``options.rates`` fits nothing.
    """
    factors = rate_factors(network, options)
    exempt = set() if options.decay_norms else _without_decay(network)
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if name in exempt else options.weight_decay
            found.setdefault((factors[name], decay), []).append(parameter)
    return [ParameterGroup(parameters, *rule) for rule, parameters in found.items()]


def rate_factors(network: nn.Module, options: TrainingConfig) -> dict[str, float]:
    """What the learning rate of each parameter is multiplied by.

    Raises:
        ValueError: a pattern of ``options.rates`` fits nothing.
    """
    named = pattern_factors("training.rates", options.rates)
    factors = {}
    for name, depth in depths(network).items():
        fitting = [factor for pattern, factor in named if fits(pattern, plain_name(name))]
        factors[name] = options.layer_decay**depth * (fitting[-1] if fitting else 1.0)
    refuse_unknown("training.rates", [pattern for pattern, _ in named], map(plain_name, factors))
    return factors


def depths(network: nn.Module) -> dict[str, int]:
    """How many blocks deep each parameter lies below the top, as for ViTs (Bao et al., 2022).

    What comes after the last block is 0 deep, the last block 1; what comes before the first is
    deepest. Blocks are the members of the backbone's outermost lists of layers; a norm that stands
    in such a list by itself belongs to the layer before it.
    """
    level_of: dict[int, int] = {}
    level = 0
    for block in blocks_of(getattr(network, "backbone", network), 1):
        level += any(parameter.ndim > 1 for parameter in block.parameters())
        level_of |= {id(parameter): level for parameter in block.parameters()}
    found, top, is_above = {}, level + 1, False
    for name, parameter in network.named_parameters():
        if id(parameter) in level_of:
            found[name], is_above = top - level_of[id(parameter)], True
        else:
            found[name] = 0 if is_above or not name.startswith(BACKBONE) else top
    return found


def _without_decay(network: nn.Module) -> set[str]:
    """Names of norms, biases and single vectors or numbers, such as GeM's exponent."""
    return {
        name
        for name, parameter in network.named_parameters()
        if parameter.ndim < 2 or name.endswith(".bias")
    }
