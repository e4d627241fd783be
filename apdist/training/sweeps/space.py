"""The search space of a sweep: dotted option names with distributions, from a TOML file.

["training.learning_rate"]
distribution = "loguniform"      # or uniform, int (both ends included, log = true), normal,
low = 1e-4                       # choice, grid (each value is tried equally often)
high = 1e-2

["loss.num_bins"]
distribution = "choice"
values = [10, 20, 40]
when = {"loss.kind" = "ap"}      # left out of trials with another loss
"""

import dataclasses
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from apdist.addresses import has_hidden
from apdist.config import Config, LossConfig, flatten, override, suggestion
from apdist.config.loss_section import fitting
from apdist.config.values import shown
from apdist.data.text import decoded
from apdist.training.sweeps.dimension import Dimension

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FIXED = ("run", "ray", "tracking", "checkpoint", "evaluation")
"""Sections that are the same for all trials."""
FIXED_OPTIONS = {
    "training.steps": "set it on the command line",
    "training.seed": "several seeds a setting are --repeats",
}
LOSSES = ("loss.kind", "loss.terms")
"""Options that say which loss; others that a trial's loss does not have are left out of it."""
BOUNDS = {"low", "high"}
DISTRIBUTIONS = {
    "choice": {"values"},
    "grid": {"values"},
    "uniform": BOUNDS,
    "loguniform": BOUNDS,
    "int": BOUNDS,
    "normal": {"mean", "sd"},
}
OPTIONAL = {"int": {"log"}}
FRACTIONS = ("uniform", "loguniform", "normal")


def read_space(path: Path, config: Config) -> list[Dimension]:
    """The dimensions in ``path``, each checked against ``config``.

    Raises:
        ValueError: no TOML, an unknown option or distribution, or a value the option refuses.
    """
    try:
        text = decoded(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ValueError(
            f"--space {path} cannot be read ({reason}); give a TOML file with distributions"
        ) from error
    except ValueError as error:
        raise ValueError(f"--space {path} cannot be read: {error}") from error
    return parsed_space(text, config, f"--space {path}")


def parsed_space(text: str, config: Config, where: str) -> list[Dimension]:
    """The dimensions in a text of TOML; those that others depend on come first.

    Raises:
        ValueError: as `read_space`.
    """
    try:
        entries = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} cannot be read: {error}") from error
    if has_hidden(text):
        raise ValueError(
            f"{where} has an address with a password, signature or query, which the files of the "
            "sweep would keep; write it without, and let the environment grant access"
        )
    if not entries:
        raise ValueError(f'{where} is empty; expected tables like ["training.learning_rate"]')
    dimensions = [_dimension(where, name, entry, config) for name, entry in entries.items()]
    dimensions = _ordered(where, dimensions)
    try:
        configs = with_losses(dimensions, config)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for dimension in dimensions:
        _check_values(where, dimension, _configs_of(dimension, config, configs))
    return dimensions


def _configs_of(dimension: Dimension, config: Config, with_loss: list[Config]) -> list[Config]:
    """``config`` in each way that a trial that has ``dimension`` may have it otherwise."""
    found = [config] if dimension.name in LOSSES else with_loss
    for name, allowed in dimension.when.items():
        if name in LOSSES:
            found = [c for c in found if _plain(flatten(c)[name]) in allowed]
        else:
            found = [override(c, {name: value}) for c in found for value in allowed]
    return found


def corner_configs(dimensions: list[Dimension], config: Config) -> list[Config]:
    """What has to fit before a sweep begins: each choice and both ends of each range, by itself."""
    with_loss = with_losses(dimensions, config)
    found: list[Config] = [*with_loss]
    for dimension in dimensions:
        for changed in _configs_of(dimension, config, with_loss):
            for value in dimension.corners():
                own = fitting({dimension.name: value}, changed.loss)
                if own and (new := override(changed, own)) not in found:
                    found.append(new)
    return found


def config_of(config: Config, params: Mapping[str, Any]) -> Config:
    """``config`` with those of ``params`` that its loss has.

    Raises:
        ValueError: they do not go together.
    """
    return override(config, fitting(params, config.loss))


def of_config(dimensions: Sequence[Dimension], config: Config) -> dict[str, Any]:
    """The setting that another run has.

    Raises:
        ValueError: the space does not have the value of an option.
    """
    options, params = flatten(config), dict[str, Any]()
    for dimension in dimensions:
        if not dimension.is_drawn(params):
            continue
        value = _plain(options[dimension.name])
        if not dimension.has(value):
            between = ", " if dimension.values else " to "
            there = between.join(map(shown, dimension.corners()))
            raise ValueError(f"its {dimension.name} is {shown(value)}, and the space has {there}")
        params[dimension.name] = value
    return params


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _dimension(where: str, name: str, entry: Any, config: Config) -> Dimension:
    if name not in flatten(config):
        quoted = "; quote the dotted name" if isinstance(entry, dict) and "." not in name else ""
        raise ValueError(
            f"{where}: unknown option {name!r}{quoted or suggestion(name, flatten(config))}"
        )
    if name.split(".")[0] in FIXED or name in FIXED_OPTIONS:
        remedy = FIXED_OPTIONS.get(name, "set it on the command line")
        raise ValueError(f"{where}: {name} is the same for all trials; {remedy}")
    kind = entry.get("distribution") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str) or kind not in DISTRIBUTIONS:
        raise ValueError(
            f"{where}: {name} needs a distribution, one of {', '.join(DISTRIBUTIONS)}; got {kind!r}"
        )
    needed = {"distribution", *DISTRIBUTIONS[kind]}
    if needed - set(entry) or set(entry) - needed - OPTIONAL.get(kind, set()) - {"when"}:
        raise ValueError(
            f"{where}: {name} ({kind}) takes {', '.join(sorted(needed))}; "
            f"got {', '.join(sorted(entry))}"
        )
    given = {key: value for key, value in entry.items() if key != "distribution"}
    values = entry.get("values", [])
    if not isinstance(values, list):
        raise ValueError(f"{where}: {name}: values must be a list, got {values!r}")
    given["values"] = tuple(values)
    given["when"] = _condition(where, name, entry.get("when", {}))
    dimension = Dimension(name, kind, **given)
    _check_bounds(where, dimension)
    if kind == "int":
        low, high = int(dimension.low), int(dimension.high)
        dimension = dataclasses.replace(dimension, low=low, high=high)
    return dimension


def _condition(where: str, name: str, given: Any) -> dict[str, tuple[Any, ...]]:
    if not isinstance(given, Mapping):
        raise ValueError(
            f'{where}: {name}: expected when = {{"loss.kind" = "ap"}}, got when = {given!r}'
        )
    return {
        other: tuple(value) if isinstance(value, list) else (value,)
        for other, value in given.items()
    }


def _ordered(where: str, dimensions: list[Dimension]) -> list[Dimension]:
    """Each after those that its condition names."""
    known = {dimension.name: dimension for dimension in dimensions}
    for dimension in dimensions:
        for name, allowed in dimension.when.items():
            if name not in known or not known[name].values:
                raise ValueError(
                    f"{where}: {dimension.name}: when names {name!r}, which is no choice of this "
                    f"space{suggestion(name, known)}"
                )
            if missing := [value for value in allowed if value not in known[name].values]:
                raise ValueError(
                    f"{where}: {dimension.name}: when {name} is {missing[0]!r}, which is none of "
                    f"its values {list(known[name].values)}"
                )
    found: list[Dimension] = []
    left = list(dimensions)
    while left:
        names = {dimension.name for dimension in left}
        ready = [dimension for dimension in left if not names & set(dimension.when)]
        if not ready:
            raise ValueError(f"{where}: the conditions of {', '.join(sorted(names))} go in a ring")
        found += ready
        left = [dimension for dimension in left if dimension not in ready]
    return found


def _check_values(where: str, dimension: Dimension, configs: Iterable[Config]) -> None:
    """Refuse a value that the option does not take, in any of the ``configs`` that have it."""
    configs, option = list(configs), dimension.name.removeprefix("loss.")
    if option != dimension.name:
        having = [config for config in configs if config.loss.has(option)]
        if not having:
            raise ValueError(f"{where}: {_nowhere(option, configs)}")
        configs = having
    # Whole numbers may be the ends of a range of fractions.
    between = [dimension.at(0.4142)] if dimension.kind in FRACTIONS else []
    for value in (*dimension.corners(), *between):
        for config in configs:
            try:
                override(config, {dimension.name: value})
            except ValueError as error:
                remedy = '; distribution = "int" draws whole numbers' if value in between else ""
                raise ValueError(f"{where}: {error}{remedy}") from error


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
    name = dimension.name
    if "values" in DISTRIBUTIONS[dimension.kind]:
        if not dimension.values:
            raise ValueError(f"{where}: {name} has no values to choose from")
        return
    numbers = (dimension.mean, dimension.sd, dimension.low, dimension.high)
    if not all(map(_is_finite, numbers)):
        named = " and ".join(sorted(DISTRIBUTIONS[dimension.kind], reverse=True))
        raise ValueError(f"{where}: {name} needs numbers for {named}")
    if dimension.kind == "normal":
        if dimension.sd <= 0:
            raise ValueError(f"{where}: {name} needs sd > 0, got {dimension.sd}")
        return
    if not dimension.low < dimension.high:
        raise ValueError(
            f"{where}: {name} needs low < high, got {dimension.low} and {dimension.high}"
        )
    if dimension.is_log and dimension.low <= 0:
        raise ValueError(f"{where}: {name} needs low > 0 to be drawn by its logarithm")
    if dimension.kind == "int" and not all(float(v).is_integer() for v in dimension.corners()):
        raise ValueError(f"{where}: {name} needs whole numbers for low and high")


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # whole numbers of TOML have no end, those that are computed with have
        return False
