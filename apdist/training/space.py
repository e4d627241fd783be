"""The search space of a sweep: dotted option names with distributions, from a TOML file.

["training.learning_rate"]
distribution = "loguniform"      # or uniform, randint (both ends included), choice
low = 1e-4
high = 1e-2

["loss.num_bins"]
distribution = "choice"
values = [10, 20, 40]
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apdist.config import Config, LossConfig, flatten, override, suggestion
from apdist.data.text import decoded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXED = ("run", "ray", "tracking", "checkpoint", "evaluation")
"""Sections that are the same for all trials."""
LOSSES = ("loss.kind", "loss.terms")
"""Options that say which loss; others that a trial's loss does not have are left out of it."""
BOUNDS = {"distribution", "low", "high"}
DISTRIBUTIONS = {
    "uniform": BOUNDS,
    "loguniform": BOUNDS,
    "randint": BOUNDS,
    "choice": {"distribution", "values"},
}


@dataclass(frozen=True)
class Dimension:
    """One option that varies."""

    name: str
    distribution: str
    low: float = 0.0
    high: float = 0.0
    values: tuple[Any, ...] = ()

    def corners(self) -> tuple[Any, ...]:
        """Values that the config must accept."""
        return self.values or (self.low, self.high)

    def for_tune(self) -> Any:
        """The distribution as Ray Tune has it."""
        from ray import tune

        if self.distribution == "choice":
            return tune.choice(list(self.values))
        if self.distribution == "randint":
            return tune.randint(int(self.low), int(self.high) + 1)
        draw = tune.uniform if self.distribution == "uniform" else tune.loguniform
        return draw(self.low, self.high)


def read_space(path: Path, config: Config) -> list[Dimension]:
    """The dimensions in ``path``, each checked against ``config``.

    Raises:
        ValueError: no TOML, an unknown option or distribution, or a value the option refuses.
    """
    try:
        entries = tomllib.loads(decoded(path.read_bytes()))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"--space {path} cannot be read: {error}") from error
    if not entries:
        raise ValueError(
            f'--space {path} is empty; expected tables like ["training.learning_rate"]'
        )
    where = f"--space {path}"
    dimensions = [_dimension(where, name, entry, config) for name, entry in entries.items()]
    try:
        configs = with_losses(dimensions, config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for dimension in dimensions:
        _check_values(where, dimension, [config] if dimension.name in LOSSES else configs)
    return dimensions


def _dimension(where: str, name: str, entry: Any, config: Config) -> Dimension:
    if name not in flatten(config):
        quoted = "; quote the dotted name" if isinstance(entry, dict) and "." not in name else ""
        raise ValueError(
            f"{where}: unknown option {name!r}{quoted or suggestion(name, flatten(config))}"
        )
    if name.split(".")[0] in FIXED or name == "training.steps":
        raise ValueError(f"{where}: {name} is the same for all trials; set it on the command line")
    kind = entry.get("distribution") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str) or kind not in DISTRIBUTIONS:
        raise ValueError(
            f"{where}: {name} needs a distribution, one of {', '.join(DISTRIBUTIONS)}; got {kind!r}"
        )
    if set(entry) != DISTRIBUTIONS[kind]:
        raise ValueError(
            f"{where}: {name} ({kind}) takes {', '.join(sorted(DISTRIBUTIONS[kind]))}; "
            f"got {', '.join(sorted(entry))}"
        )
    values = entry.get("values", [])
    if not isinstance(values, list):
        raise ValueError(f"{where}: {name}: values must be a list, got {values!r}")
    dimension = Dimension(name, **{**entry, "values": tuple(values)})
    _check_bounds(where, dimension)
    return dimension


def _check_values(where: str, dimension: Dimension, configs: list[Config]) -> None:
    """Refuse a value that the option does not take, in any of the ``configs`` that have it."""
    option = dimension.name.removeprefix("loss.")
    if option != dimension.name:
        having = [config for config in configs if config.loss.has(option)]
        if not having:
            raise ValueError(f"{where}: {_nowhere(option, configs)}")
        configs = having
    for value in dimension.corners():
        for config in configs:
            try:
                override(config, {dimension.name: value})
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error


def _nowhere(option: str, configs: list[Config]) -> str:
    try:
        for config in configs:
            config.loss.refuse_without(option)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{option} is one of the losses'")


def with_losses(dimensions: list[Dimension], config: Config) -> list[Config]:
    """``config`` with each loss that a trial may have, its other options left as they are.

    Raises:
        ValueError: a loss is unknown, or lacks an option that is set for all trials.
    """
    losses = [d for d in dimensions if d.name in LOSSES]
    if len(losses) > 1:
        raise ValueError(
            f"{' and '.join(LOSSES)} cannot both vary; a single loss is a sum as well: "
            'loss.terms with values = [["ap=1"], ["triplet=1"]]'
        )
    if not losses:
        return [config]
    return [override(config, {losses[0].name: value}) for value in losses[0].corners()]


def losses_of(dimensions: list[Dimension], config: Config) -> list[LossConfig]:
    """What can be built otherwise in one trial than in another: losses and their arguments."""
    arguments = [v for d in dimensions if d.name == "loss.arguments" for v in d.corners()]
    return [
        loss
        for changed in with_losses(dimensions, config)
        for loss in (
            [override(changed, {"loss.arguments": value}).loss for value in arguments]
            if arguments and changed.loss.has("arguments")
            else [changed.loss]
        )
    ]


def _check_bounds(where: str, dimension: Dimension) -> None:
    if dimension.distribution == "choice":
        if not dimension.values:
            raise ValueError(f"{where}: {dimension.name} has no values to choose from")
        return
    if not all(isinstance(v, int | float) for v in dimension.corners()):
        raise ValueError(f"{where}: {dimension.name} needs numbers for low and high")
    if not dimension.low < dimension.high:
        raise ValueError(
            f"{where}: {dimension.name} needs low < high, got {dimension.low} and {dimension.high}"
        )
    if dimension.distribution == "loguniform" and dimension.low <= 0:
        raise ValueError(f"{where}: {dimension.name} needs low > 0 for loguniform")
