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

from apdist.config import Config, flatten, override, suggestion
from apdist.data.text import decoded

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXED = ("run", "ray", "tracking", "checkpoint", "evaluation")
"""Sections that are the same for all trials."""
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
    return [_dimension(f"--space {path}", name, entry, config) for name, entry in entries.items()]


def _dimension(where: str, name: str, entry: Any, config: Config) -> Dimension:
    if name not in flatten(config):
        quoted = "; quote the dotted name" if isinstance(entry, dict) and "." not in name else ""
        raise ValueError(
            f"{where}: unknown option {name!r}{quoted or suggestion(name, flatten(config))}"
        )
    if name.split(".")[0] in FIXED or name == "training.steps":
        raise ValueError(f"{where}: {name} is the same for all trials; set it on the command line")
    kind = entry.get("distribution") if isinstance(entry, Mapping) else None
    if kind not in DISTRIBUTIONS:
        raise ValueError(
            f"{where}: {name} needs a distribution, one of {', '.join(DISTRIBUTIONS)}; got {kind!r}"
        )
    if set(entry) != DISTRIBUTIONS[kind]:
        raise ValueError(
            f"{where}: {name} ({kind}) takes {', '.join(sorted(DISTRIBUTIONS[kind]))}; "
            f"got {', '.join(sorted(entry))}"
        )
    dimension = Dimension(name, **{**entry, "values": tuple(entry.get("values", ()))})
    _check_bounds(where, dimension)
    for value in dimension.corners():
        try:
            override(config, {name: value})
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return dimension


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
