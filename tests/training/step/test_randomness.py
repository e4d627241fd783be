"""Random state by seed, step and chunk."""

import torch

from apdist.training.step.randomness import chunk_seed
from tests.toy import (
    Toy,
    run_step,
)


def test_dropout_differs_between_steps_and_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    model = Toy()
    torch.manual_seed(5)
    run_step(model, 5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_chunk_of_every_step_of_every_seed_draws_differently() -> None:
    named = [(a, b, c) for a in range(3) for b in range(12) for c in range(12)]
    assert len({chunk_seed(*name) for name in named}) == len(named)
