"""What is trained: the network with its adapters, and which of its parameters move at a step."""

import torch
from torch import Tensor, nn

from apdist.config import LoraConfig, ModelConfig, TrainingConfig
from apdist.model.adapters import add_adapters
from apdist.model.descriptor import DescriptorNet
from apdist.model.names import fits, is_adapter, plain_name, refuse_unknown
from apdist.model.pretrained import build_model
from apdist.training.step.recomputing import checkpoint_blocks


def build_trainable(model: ModelConfig, lora: LoraConfig, options: TrainingConfig) -> DescriptorNet:
    """The network that is trained: adapters in place, what is never trained without a gradient.

    Raises:
        ValueError: weights cannot be had, a pattern fits nothing, or nothing is left to train.
    """
    network = build_model(model)
    refuse_unknown("training.freeze", options.freeze, [n for n, _ in network.named_parameters()])
    if lora.rank:
        add_adapters(network, lora)
    if options.checkpoint_blocks and not checkpoint_blocks(network):
        raise ValueError(
            f"training.checkpoint_blocks: model.backbone {model.backbone} has no blocks; "
            "leave it out"
        )
    if options.freeze:
        _keep_group_norms_alive(network)
    freezing = Freezing(network, options)
    freezing.set_step(0)
    if not any(p.requires_grad for p in network.parameters()):
        raise ValueError(
            f"training.freeze {' '.join(options.freeze)} leaves nothing to train; freeze less"
        )
    if options.unfreeze_at:
        freezing.set_step(options.unfreeze_at)
    return network


class Freezing:
    """Which parameters of ``network`` are trained: a function of the step, so nothing is resumed.

    Args:
        network: in which all are trainable that ever will be.
        options: patterns of those that are not, and from when on they are.
    """

    def __init__(self, network: nn.Module, options: TrainingConfig) -> None:
        self.network, self.unfreeze_at = network, options.unfreeze_at
        self.names = {
            name
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and not is_adapter(name) and _is_named(name, options.freeze)
        }
        self.is_frozen = False

    def set_step(self, step: int) -> None:
        """Freeze the parameters named, or let them be trained, as they are at ``step``."""
        is_frozen = not self.unfreeze_at or step < self.unfreeze_at
        if is_frozen == self.is_frozen:
            return
        self.is_frozen = is_frozen
        for name, parameter in self.network.named_parameters():
            if name in self.names:
                parameter.requires_grad_(not is_frozen)
        self.network.train(self.network.training)  # frozen batch norm keeps its statistics


def _keep_group_norms_alive(network: nn.Module) -> None:
    """Let a group norm be trained above a frozen layer.

    On a CPU torch 2.13 ends the process by SIGSEGV where the input of one lies channels-last and
    needs no gradient, and its own weights do.
    """
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_contiguous_on_cpu)


def _contiguous_on_cpu(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    is_safe = not torch.is_grad_enabled() or any(x.requires_grad or x.is_cuda for x in inputs)
    return inputs if is_safe else tuple(x.contiguous() for x in inputs)


def _is_named(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fits(pattern, plain_name(name)) for pattern in patterns)


def trained_share(network: nn.Module, options: TrainingConfig) -> tuple[int, int]:
    """How many numbers of ``network`` are trained at the first step, and how many it has."""
    freezing = Freezing(network, options)
    freezing.set_step(0)
    sizes = [(p.numel(), p.requires_grad) for p in network.parameters()]
    freezing.set_step(options.unfreeze_at)
    return sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)
