"""Low-rank adapters beside the layers of a network (Hu et al., 2021), by peft; merged at the end.

Shapes: o and i the outputs and inputs of a layer, r the rank, k x l the size of a convolution.
"""

from torch import Tensor, nn

from apdist.config import LoraConfig
from apdist.config.extras import install
from apdist.model.names import fits, is_adapter, plain_name, refuse_unknown

_NAME = "default"  # peft's own, of the one adapter that a layer has here


def add_adapters(network: nn.Module, config: LoraConfig) -> None:
    """Put adapters beside the layers of ``network`` that ``config`` names, in place.

    The layers and all of the backbone are not trained any more; the adapters are.

    Raises:
        ValueError: peft is not there, or a pattern fits no layer.
    """
    targets = _targets(network, config)
    try:
        from peft import LoraConfig as Peft
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise ValueError(f"lora.rank {config.rank} needs peft: {install('lora')}") from error
    for name in targets:
        network.set_submodule(name, _plain(network.get_submodule(name)))
    wanted = {name for name, p in network.named_parameters() if p.requires_grad}
    # A text is a regular expression to peft, a list are ends of names.
    peft = Peft(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="|".join(name.replace(".", r"\.") for name in targets),
    )
    inject_adapter_in_model(peft, network)
    layers = tuple(f"{target}." for target in targets)
    for name, parameter in network.named_parameters():
        stays = plain_name(name).startswith(("backbone.", *layers))
        parameter.requires_grad_(is_adapter(name) or (name in wanted and not stays))


def merged(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with the names of a network without adapters, and these in its weights.

        weight (o, i, k, l) + alpha / r * B (o, r) A (r, i, k, l)

    Args:
        network: with adapters, or without: then nothing changes.
        state: whole tensors by the names of ``network``.
    """
    plain = {plain_name(name): value for name, value in state.items() if not is_adapter(name)}
    end = f".lora_A.{_NAME}.weight"
    for layer in (name.removesuffix(end) for name in state if name.endswith(end)):
        inner, outer = (state[f"{layer}.lora_{side}.{_NAME}.weight"] for side in "AB")
        scaling: float = network.get_submodule(layer).scaling[_NAME]  # type: ignore[index, assignment]
        weight = plain[f"{layer}.weight"]
        product = outer.flatten(1) @ inner.flatten(1)  # (o, i k l)
        plain[f"{layer}.weight"] = weight + scaling * product.view_as(weight)
    return plain


def _targets(network: nn.Module, config: LoraConfig) -> list[str]:
    """Names of the layers that get an adapter."""
    layers = [name for name, module in network.named_modules() if _takes_adapter(module)]
    refuse_unknown("lora.targets", config.targets, layers, "no linear layer or convolution")
    return [name for name in layers if any(fits(pattern, name) for pattern in config.targets)]


def _takes_adapter(layer: nn.Module) -> bool:
    """Whether peft's adapter computes what the layer does, and can be merged."""
    if isinstance(layer, nn.Conv2d):
        # Who extends it may pad by itself, which no adapter knows of.
        is_pointwise = layer.kernel_size == layer.stride == (1, 1)
        return layer.groups == 1 and (type(layer) is nn.Conv2d or is_pointwise)
    return type(layer) is nn.Linear


def _plain(layer: nn.Module) -> nn.Module:
    """``layer``; a convolution of a class of its own as torch's: peft builds adapters by class."""
    if not isinstance(layer, nn.Conv2d) or type(layer) is nn.Conv2d:
        return layer
    has_bias = layer.bias is not None
    plain = nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=has_bias, device="meta")
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain
