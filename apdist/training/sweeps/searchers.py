"""Which setting is tried next: a function of the seed, its number and what earlier ones came to.

Nothing is kept between two draws. A sweep that is resumed draws what it would have drawn, and tells
the model of TPE everything again by drawing.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from apdist.config.extras import install
from apdist.training.sweeps.dimension import Dimension

SEARCHERS = ("random", "grid", "tpe")
TRIES = 100
"""Draws of what was drawn before after which all settings of a space count as tried."""
LARGEST_GRID = 100_000
NUM_RANDOM = 10
"""Settings that TPE draws at random before it has a model."""

Params = dict[str, Any]


@dataclass(frozen=True)
class Told:
    """What a setting came to."""

    params: Params
    values: tuple[float, ...] = ()
    """Of each objective, all to be large; empty: it is still trained, or failed."""


def draw(
    searcher: str, dimensions: Sequence[Dimension], seed: int, told: Sequence[Told]
) -> Params | None:
    """The next setting, which is none of those in ``told``; None: the space has no other.

    Raises:
        ValueError: TPE is asked for and Optuna is not installed.
    """
    seen = [earlier.params for earlier in told]
    if searcher == "grid":
        return next((params for params in grid(dimensions) if params not in seen), None)
    number = len(told)
    if searcher == "tpe" and sum(bool(t.values) for t in told) >= NUM_RANDOM:
        params = _of_model(dimensions, seed, told)
        if params not in seen:
            return params
    for attempt in range(TRIES):
        generator = random.Random(f"{seed}/{number}/{attempt}")  # noqa: S311
        params = at_random(dimensions, generator, number)
        if params not in seen:
            return params
        number += 1  # the next point of a grid, where there is one
    return None


def at_random(dimensions: Sequence[Dimension], generator: random.Random, number: int) -> Params:
    """A setting; dimensions of a grid take their combinations in turn, by ``number``."""
    fixed = _of_grid(dimensions, number)
    params: Params = {}
    for dimension in dimensions:
        share = generator.random()  # of each, so that conditions move no other's
        if dimension.is_drawn(params):
            value = fixed.get(dimension.name)
            params[dimension.name] = dimension.at(share) if value is None else value[0]
    return params


def _of_grid(dimensions: Sequence[Dimension], number: int) -> dict[str, tuple[Any]]:
    """The combination of a ``number``, each value in a tuple."""
    fixed = {}
    for dimension in reversed([d for d in dimensions if d.kind == "grid"]):
        number, place = divmod(number, len(dimension.values))
        fixed[dimension.name] = (dimension.values[place],)
    return fixed


def grid(dimensions: Sequence[Dimension]) -> Iterator[Params]:
    """Every setting once, in order; what a condition leaves out makes no other setting.

    Raises:
        ValueError: a dimension has no end, or there are too many settings.
    """
    axes = [_values(dimension) for dimension in dimensions]
    if (size := math.prod(map(len, axes))) > LARGEST_GRID:
        raise ValueError(
            f"the grid has {size:,} settings, expected at most {LARGEST_GRID:,}; use fewer values, "
            "or --searcher random"
        )
    seen: list[Params] = []
    for values in itertools.product(*axes):
        params: Params = {}
        for dimension, value in zip(dimensions, values, strict=True):
            if dimension.is_drawn(params):
                params[dimension.name] = value
        if params not in seen:
            seen.append(params)
            yield params


def _values(dimension: Dimension) -> Sequence[Any]:
    if dimension.values:
        return dimension.values
    if dimension.kind == "int":
        return range(int(dimension.low), int(dimension.high) + 1)
    raise ValueError(
        f"--searcher grid needs values to go through, and {dimension.name} is {dimension.kind}; "
        "give it a choice, or use --searcher random"
    )


def optuna_here() -> Any:
    """Optuna, silenced.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            f"--searcher tpe needs Optuna: {install('optuna')}, or use --searcher random"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _of_model(dimensions: Sequence[Dimension], seed: int, told: Sequence[Told]) -> Params:
    """What TPE proposes after all that is ``told``."""
    optuna = optuna_here()
    sampler = optuna.samplers.TPESampler(
        seed=seed * 1_000_003 + len(told), n_startup_trials=NUM_RANDOM
    )
    num_objectives = max(len(earlier.values) for earlier in told)
    study = optuna.create_study(directions=["maximize"] * num_objectives, sampler=sampler)
    for earlier in told:
        if earlier.values:
            shown = _shown(optuna, dimensions, earlier.params)
            study.add_trial(
                optuna.trial.create_trial(**shown, values=[float(v) for v in earlier.values])
            )
    asked = study.ask()
    fixed = _of_grid(dimensions, len(told))
    params: Params = {}
    for dimension in dimensions:
        if dimension.is_drawn(params):
            value = fixed.get(dimension.name)
            params[dimension.name] = _suggested(asked, dimension) if value is None else value[0]
    return params


def _shown(optuna: Any, dimensions: Sequence[Dimension], params: Params) -> dict[str, Any]:
    """A setting as Optuna has it: choices by their places, as lists are no values there."""
    values, kinds = {}, {}
    for dimension in dimensions:
        if dimension.name not in params or dimension.kind == "grid":
            continue
        value, name = params[dimension.name], dimension.name
        if dimension.values:
            kinds[name] = optuna.distributions.CategoricalDistribution(_places(dimension))
            values[name] = dimension.values.index(value)
        else:
            whole, (low, high) = dimension.kind == "int", dimension.corners()
            kind = "IntDistribution" if whole else "FloatDistribution"
            kinds[name] = getattr(optuna.distributions, kind)(low, high, log=dimension.is_log)
            values[name] = value
    return {"params": values, "distributions": kinds}


def _places(dimension: Dimension) -> list[int]:
    return list(range(len(dimension.values)))


def _suggested(asked: Any, dimension: Dimension) -> Any:
    if dimension.values:
        place = asked.suggest_categorical(dimension.name, _places(dimension))
        return dimension.values[place]
    suggest: Callable[..., Any] = (
        asked.suggest_int if dimension.kind == "int" else asked.suggest_float
    )
    return suggest(dimension.name, *dimension.corners(), log=dimension.is_log)
