"""States of a network and its optimiser: whole, by name, as torch's own for divided ones."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from apdist.training.step.states import (
    load_network_state,
    load_optimizer_state,
    network_state,
    optimizer_state,
)

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def trained(seed: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Two groups, one parameter of which was never used."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, *rest = network.parameters()
    unused = nn.Parameter(torch.ones(3))
    network.register_parameter("unused", unused)
    optimizer = torch.optim.AdamW([{"params": [first], "lr": 0.5}, {"params": [*rest, unused]}])
    for _ in range(2):
        network(torch.randn(5, 3, 4, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return network, optimizer


def flat(state: Any, at: str = "") -> dict[str, Any]:
    if isinstance(state, dict):
        return {k: v for name, part in state.items() for k, v in flat(part, f"{at}/{name}").items()}
    return {at: state}


def assert_same(one: Any, other: Any) -> None:
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, other[name]), name
            assert value.stride() == other[name].stride(), name
        else:
            assert value == other[name], name


def test_the_state_is_torchs_own_but_for_parameters_that_were_never_used() -> None:
    network, optimizer = trained(0)
    assert_same(network_state(network), get_model_state_dict(network, options=WHOLE))
    ours = optimizer_state(network, optimizer)
    theirs: dict[str, Any] = {**get_optimizer_state_dict(network, optimizer, options=WHOLE)}
    theirs["state"].pop("unused", None)
    assert_same(ours["state"], theirs["state"])
    names = [[*group["params"]] for group in ours["param_groups"]]
    assert names == [["0.weight"], ["0.bias", "1.weight", "1.bias", "3.weight", "3.bias", "unused"]]


def test_what_is_told_is_a_copy() -> None:
    network, optimizer = trained(0)
    told = network_state(network), optimizer_state(network, optimizer)
    before = [value.clone() for value in flat(dict(enumerate(told))).values() if is_tensor(value)]
    network(torch.randn(5, 3, 4, 4)).sum().backward()
    optimizer.step()
    after = [value for value in flat(dict(enumerate(told))).values() if is_tensor(value)]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def test_another_goes_on_from_it_to_the_last_bit() -> None:
    there, here = trained(0), trained(1)
    load_network_state(here[0], network_state(there[0]))
    told = optimizer_state(*there)
    load_optimizer_state(*here, told)
    images = torch.randn(5, 3, 4, 4)
    for network, optimizer in (there, here):
        network(images).square().sum().backward()
        optimizer.step()
    assert_same(network_state(here[0]), network_state(there[0]))
    assert_same(optimizer_state(*here)["state"], optimizer_state(*there)["state"])
    # What was loaded from does not move with it.
    assert not torch.equal(
        told["state"]["3.bias"]["exp_avg"],
        here[1].state[here[0][3].bias]["exp_avg"],  # type: ignore[index]
    )


def test_groups_are_those_that_the_optimiser_has() -> None:
    there, here = trained(0), trained(1)
    here[1].param_groups[0]["lr"] = 0.25
    load_optimizer_state(*here, optimizer_state(*there))
    assert [group["lr"] for group in here[1].param_groups] == [0.25, 1e-3]
    known = {name for name, p in here[0].named_parameters() if p in here[1].state}
    assert "unused" not in known
    assert "3.bias" in known


@pytest.mark.parametrize("name", ["0.weight", "3.bias"])
def test_torch_reads_it_as_its_own(name: str) -> None:
    there, here = trained(0), trained(1)
    told = optimizer_state(*there)
    lenient = StateDictOptions(full_state_dict=True, strict=False)
    set_optimizer_state_dict(*here, told, options=lenient)
    moved = dict(here[0].named_parameters())[name]
    expected = dict(there[0].named_parameters())[name]
    assert torch.equal(here[1].state[moved]["exp_avg"], there[1].state[expected]["exp_avg"])
