"""Gradients that were there before a step, and parameters that nobody uses."""

import copy

import pytest
import torch
from torch import nn

from apdist.training.step.gradients import (
    add_gradients,
    take_gradients,
    used_anywhere,
    used_flags,
)
from tests.toy import (
    Toy,
    run_step,
)
from tests.training.step.steps import MODES
from tests.workers import on_workers


@pytest.mark.parametrize("mode", MODES)
def test_a_step_adds_to_the_gradient_that_is_there(mode: str) -> None:
    model = Toy()
    once = run_step(copy.deepcopy(model), 6, activations=mode).gradients
    model.first.weight.grad = torch.ones_like(model.first.weight)
    twice = run_step(model, 6, activations=mode).gradients
    torch.testing.assert_close(twice["first.weight"], once["first.weight"] + 1)
    torch.testing.assert_close(twice["last.weight"], once["last.weight"])


def test_what_nobody_uses_has_no_gradient() -> None:
    model = Toy()
    run_step(model, 6)
    assert model.unused.grad is None
    assert on_workers(2, run_unused) == [True, True]


def run_unused() -> bool:
    model = Toy()
    run_step(model, 26)  # worker 1 has no chunk
    return model.unused.grad is None and model.last.weight.grad is not None


def test_who_uses_what_is_told_for_more_parameters_than_a_number_has_bits() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(130)]
    here, there = {0, 61, 62, 129}, {1, 124}
    told = []
    for used in (here, there):
        for number, parameter in enumerate(parameters):
            parameter.grad = torch.zeros(1) if number in used else None
        told.append(used_flags(parameters))
    found = {id(parameter) for parameter in used_anywhere(parameters, told)}
    assert found == {id(parameters[number]) for number in here | there}


def test_gradients_that_were_taken_are_added_to_new_ones_or_put_back() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.ones(1, 2)
    earlier = take_gradients(model)
    assert model.weight.grad is None
    add_gradients(model, earlier)
    assert model.weight.grad.tolist() == [[1, 1]]
    assert model.bias.grad is None
    earlier = take_gradients(model)
    model.weight.grad = torch.full((1, 2), 2.0)
    add_gradients(model, earlier)
    assert model.weight.grad.tolist() == [[3, 3]]
