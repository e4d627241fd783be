"""The command that trains a setting of a sweep again."""

import shlex
from typing import Any

from apdist.config import Config, flatten, override
from apdist.config.loss_section import fitting
from apdist.data.decoders import resolved
from apdist_verbs.start.completing import with_absolute_paths
from apdist_verbs.start.start import Start


def training_command(start: Start, config: Config, params: dict[str, Any]) -> str:
    """The `apdist train` command with the sweep's own changes to its start and ``params``."""
    before = flatten(with_absolute_paths(start.config))
    config = override(config, params)
    after = flatten(config)
    if before["data.decoder"] == "auto" and after["data.decoder"] == resolved("auto"):
        after["data.decoder"] = "auto"  # it was resolved when the sweep began
    changes = {
        name: value
        for name, value in after.items()
        if value != before[name] and not name.startswith("run.")
    }
    return " ".join(
        [
            *("apdist", "train"),
            *(shlex.quote(word) for word in start.words),
            *(_option(k, v) for k, v in fitting(changes, config.loss).items()),
        ]
    )


def _option(name: str, value: Any) -> str:
    section, option = name.replace("_", "-").split(".")
    if isinstance(value, bool):
        return f"--{section}.{option}" if value else f"--{section}.no-{option}"
    if isinstance(value, tuple):
        words = " ".join(shlex.quote(str(part)) for part in value)
        return f"--{section}.{option} {words}" if value else f"--{section}.{option}="
    return f"--{section}.{option} {shlex.quote(str(value))}"
