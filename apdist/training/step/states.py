"""Full states of a network and its optimiser on the CPU, whether parameters are sharded or not.

Both ways give the same, by name. That of sharded parameters needs parts of torch that take a second
of each worker to import.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from apdist.training.step.sharding import is_sharded, reshard


def network_state(network: nn.Module) -> dict[str, Any]:
    """Copies of parameters and buffers by name; all workers must call it.

    On workers other than 0 it is empty if parameters are sharded.
    """
    if is_sharded(network):
        from torch.distributed.checkpoint import state_dict as sharded_state

        options = sharded_state.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return {**_copied(sharded_state.get_model_state_dict(network, options=options))}
    return {**_copied(network.state_dict())}


def load_network_state(network: nn.Module, state: Mapping[str, Any]) -> None:
    """Give ``network`` what `network_state` gave of one like it; all workers must call it."""
    reshard(network)
    if is_sharded(network):
        from torch.distributed.checkpoint import state_dict as sharded_state

        options = sharded_state.StateDictOptions(full_state_dict=True)
        sharded_state.set_model_state_dict(network, {**state}, options=options)
        return
    network.load_state_dict(state)


def optimizer_state(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Copies of what ``optimizer`` keeps for each parameter, by name; all workers must call it.

    On workers other than 0 it is empty if parameters are sharded.
    """
    if is_sharded(network):
        from torch.distributed.checkpoint import state_dict as sharded_state

        options = sharded_state.StateDictOptions(full_state_dict=True, cpu_offload=True)
        found = sharded_state.get_optimizer_state_dict(network, optimizer, options=options)
        return {**_copied(found)}
    names = _names(network)
    kept = {names[parameter]: _copied(own) for parameter, own in optimizer.state.items()}
    return {"state": kept, "param_groups": _groups(optimizer, names)}


def load_optimizer_state(
    network: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]
) -> None:
    """Give ``optimizer`` what `optimizer_state` gave; all workers must call it.

    Its groups are those that it has: as the options say, not those of an earlier run. A parameter
    that ``state`` says nothing of was never used.
    """
    names, known = _names(network), state["state"]
    groups = _groups(optimizer, names)
    if is_sharded(network):
        from torch.distributed.checkpoint import state_dict as sharded_state

        lenient = sharded_state.StateDictOptions(full_state_dict=True, strict=False)
        told: dict[str, Any] = {**state, "param_groups": groups}
        sharded_state.set_optimizer_state_dict(network, optimizer, told, options=lenient)
        for parameter in [p for p in optimizer.state if names[p] not in known]:
            del optimizer.state[parameter]  # torch has counted a step of what has made none
        return
    order = [name for group in groups for name in group["params"]]
    kept = {place: _copied(known[name]) for place, name in enumerate(order) if name in known}
    places = {name: place for place, name in enumerate(order)}
    numbered = [{**g, "params": [places[name] for name in g["params"]]} for g in groups]
    optimizer.load_state_dict({"state": kept, "param_groups": numbered})


def _names(network: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in network.named_parameters()}


def _groups(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> list[dict[str, Any]]:
    """The groups of ``optimizer``, parameters by name."""
    return [
        {**group, "params": [names[parameter] for parameter in group["params"]]}
        for group in optimizer.param_groups
    ]


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    return [_copied(value) for value in state] if isinstance(state, list) else state
