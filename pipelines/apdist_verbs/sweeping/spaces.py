"""The spaces that come with apdist: a name in place of a file."""

from __future__ import annotations

from pathlib import Path

from apdist.config import suggestion
from apdist_verbs.terminal.overview import two_columns

FOLDER = Path(__file__).parents[1] / "spaces"
SPACES = {
    "paper": "bins, rate, batch, weight of classes",
    "baselines": "other losses with their margins and temperatures",
    "augmentation": "crops, turns and colours",
    "backbone": "what lies on top of one: pooling, size, start of the last layer",
}


def space_help() -> str:
    """A line for each."""
    return two_columns(SPACES, 14)


def space_file(given: Path) -> Path:
    """The file of a space by its path, or by the name of one of ours.

    Raises:
        ValueError: it is neither.
    """
    name = str(given)
    if given.exists() or given.name != name or given.suffix:
        return given
    if name not in SPACES:
        hint = suggestion(name, list(SPACES)) or f", or one of {', '.join(SPACES)}"
        raise ValueError(
            f"--space {name}: there is no such file, and no space of ours has that name; give a "
            f"TOML file with distributions{hint}"
        )
    return FOLDER / f"{name}.toml"
