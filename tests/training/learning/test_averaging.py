"""Running means and blends between weights, against their definitions."""

import pytest
import torch
from torch import Tensor, nn

from apdist.training.learning.averaging import RunningMean, WeightBlends, local_parameters


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2).double()


def move(net: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += by


def copies(net: nn.Module) -> dict[str, Tensor]:
    return {name: part.clone() for name, part in local_parameters(net).items()}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, part in expected.items():
        torch.testing.assert_close(found[name], part, rtol=1e-12, atol=0)


def test_the_mean_keeps_a_share_at_each_step_that_grows_to_what_was_asked() -> None:
    net = network()
    mean, expected = RunningMean(net, 0.5), None
    for done in range(1, 12):
        move(net, 0.1 * done)
        mean.after_step(done)
        now, keep = copies(net), min(0.5, (1 + done) / (10 + done))
        if expected is None:
            expected = now
        expected = {name: keep * expected[name] + (1 - keep) * now[name] for name in now}
    assert expected is not None
    weights = copies(net)
    with mean.shown():
        same(copies(net), expected)
    same(copies(net), weights)


def test_a_parameter_that_is_frozen_until_later_has_its_weight_as_its_mean() -> None:
    net = network()
    mean, again = RunningMean(net, 0.5), RunningMean(net, 0.5)
    for done in (1, 2):
        with torch.no_grad():
            net.weight += done  # the bias is frozen until then
        mean.after_step(done)
    with mean.shown():
        again.follow()  # as a run that goes on does
        assert torch.equal(net.bias, network().bias)
        assert not torch.equal(net.weight, network().weight + 3)
    move(net, 1.0)
    found = []
    for averaged in (mean, again):
        averaged.after_step(3)
        with averaged.shown():
            found.append(copies(net))
    same(found[0], found[1])
    keep = 4 / 13
    torch.testing.assert_close(found[0]["bias"], network().bias.detach() + 1 - keep)


def test_a_mean_goes_on_from_its_state_and_leaves_the_weights_alone() -> None:
    net, other = network(), network()
    mean, again = RunningMean(net, 0.5), RunningMean(other, 0.5)
    for done in (1, 2):
        move(net, 0.1 * done)
        mean.after_step(done)
    other.load_state_dict(net.state_dict())
    weights = copies(other)
    again.load_state_dict(mean.state_dict())
    same(copies(other), weights)
    found = []
    for trained, averaged in ((net, mean), (other, again)):
        move(trained, 0.3)
        averaged.after_step(3)
        with averaged.shown():
            found.append(copies(trained))
    same(found[1], found[0])
    without = RunningMean(other, 0)
    without.load_state_dict(mean.state_dict())
    assert without.state_dict() == {}


def test_without_a_share_there_is_no_mean() -> None:
    net = network()
    mean, weights = RunningMean(net, 0), copies(net)
    mean.after_step(1)
    mean.follow()
    assert mean.state_dict() == {}
    with mean.shown():
        same(copies(net), weights)


def test_the_weights_come_back_whatever_happens_in_the_block() -> None:
    net = network()
    mean = RunningMean(net, 0.9)
    mean.after_step(1)
    move(net, 1.0)
    weights = copies(net)
    with pytest.raises(ValueError, match="out"), mean.shown():
        raise ValueError("out")
    same(copies(net), weights)


def test_descriptors_on_all_ways_are_those_of_the_weights_between() -> None:
    net = network()
    start = copies(net)
    move(net, 1.0)
    weights, images = copies(net), torch.randn(4, 3, dtype=torch.float64)
    blends = WeightBlends(net, (0.0, 0.25, 1.0), start)
    found = blends.network_of_all()(images)
    same(copies(net), weights)
    expected = []
    for blend in (0.0, 0.25, 1.0):
        with blends.shown(blend):
            between = {name: start[name] + blend * (weights[name] - start[name]) for name in start}
            same(copies(net), between)
            expected.append(net(images))
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=0, atol=0)
    assert WeightBlends(net, (), {}).network_of_all() is net


def test_the_product_of_an_adapter_is_on_its_way_from_nothing() -> None:
    torch.manual_seed(0)
    net = nn.ModuleDict({"a": nn.ModuleDict()})
    for side, shape in (("lora_A", (2, 5)), ("lora_B", (4, 2))):
        net["a"][side] = nn.ModuleDict({"default": nn.Linear(shape[1], shape[0], bias=False)})
    inner, outer = net["a"]["lora_A"]["default"], net["a"]["lora_B"]["default"]
    nn.init.zeros_(outer.weight)
    blends = WeightBlends(net, (0.25,), copies(net))
    with torch.no_grad():
        inner.weight += 1
        outer.weight += torch.randn(4, 2)
    product = outer.weight @ inner.weight
    with blends.shown(0.25):
        torch.testing.assert_close(outer.weight @ inner.weight, product / 4)
    torch.testing.assert_close(outer.weight @ inner.weight, product)
