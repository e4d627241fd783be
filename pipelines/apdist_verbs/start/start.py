"""What a training starts from: a preset, a file of options, and perhaps a folder of pictures."""

import dataclasses
import json
import os
import shlex
from dataclasses import dataclass, field
from typing import Annotated, Any

import tomllib

from apdist.config import Config, override
from apdist.data import storage
from apdist.data.text import decoded
from apdist.training.run_folder.runs import CONFIG_NAME, RUN_NAME
from apdist_verbs.prepare.folder import Choices
from apdist_verbs.prepare.table import TableColumns
from apdist_verbs.presets import preset
from apdist_verbs.terminal import options
from apdist_verbs.terminal.fields import Argument, positional

FLAG = "--config"
COMMON = (
    *("--data.shards", "--data.eval-split", "--data.image-size", "--data.group-size"),
    *("--model.backbone", "--model.dim", "--training.steps", "--training.batch-size"),
    *("--training.chunk-size", "--training.learning-rate", "--training.seed"),
    *("--evaluation.every-steps", "--ray.num-workers", "--ray.use-gpu"),
    *("--tracking.enabled", "--run.name"),
)
"""Options that most people change; a help begins with them."""


@dataclass(frozen=True, kw_only=True)
class Options(Choices, TableColumns):
    """Train with the three-stage average-precision step."""

    images: Annotated[str, positional("IMAGES")] = ""
    """Folder of pictures, IMAGES/<class>/<image>, or with one list of them; or a .csv, .tsv or
    .parquet file. They are prepared into a cache, and again when they have changed."""
    config_file: Annotated[str, Argument(name="config", hint="default: none")] = ""
    """Start from the options in this file, a run's config.json or the same in TOML, or a run's
    folder; options on the command line replace those in it."""
    config: Annotated[Config, Argument(name="")] = field(default_factory=Config)


def read_start(argv: list[str]) -> tuple[str, Options]:
    """The name of what a training starts from, and its options.

    Raises:
        ValueError: neither a preset nor a file, or an option is wrong.
    """
    name = "" if argv[0].startswith("-") else argv[0]
    given = argv[1:] if name else argv
    if os.path.sep in name and os.path.exists(name):
        raise ValueError(f"a preset comes first: apdist train folder {shlex.quote(name)}")
    start = preset(name) if name else Config()
    if file := _file_in(given):
        start = read_file(file, start)
        name = name or _preset_of(file)
    elif not name and not {"-h", "--help", "--help-all"} & set(given):
        raise ValueError(
            f"expected `apdist train PRESET [IMAGES]` or `apdist train {FLAG} FILE`, "
            f"got {argv[0]!r} first"
        )
    prog = f"apdist train {argv[0]}" if name == argv[0] else "apdist train"
    found = options.parse(Options, given, prog, default=Options(config=start), common=COMMON)
    if found.images and found.config.data.shards != start.data.shards:
        raise ValueError(
            f"give pictures ({found.images}) or --data.shards {found.config.data.shards}, not both"
        )
    return name, found


def read_file(uri: str, start: Config) -> Config:
    """``start`` with the options in a file; what it does not name stays.

    Raises:
        ValueError: it cannot be read, or an option in it is unknown or wrong.
    """
    if not storage.exists(uri) and storage.exists(storage.join(uri, CONFIG_NAME)):
        uri = storage.join(uri, CONFIG_NAME)
    try:
        text = decoded(storage.read_bytes(uri))
        nested: Any = tomllib.loads(text) if uri.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "TOML" if uri.endswith(".toml") else "JSON (TOML ends with .toml)"
        raise ValueError(f"{FLAG} {uri} is no {kind}: {error}") from error
    if not isinstance(nested, dict) or not all(isinstance(v, dict) for v in nested.values()):
        raise ValueError(f"{FLAG} {uri}: expected sections with options, as [training] steps = 100")
    try:
        config = override(
            start, {f"{section}.{k}": v for section, own in nested.items() for k, v in own.items()}
        )
    except ValueError as error:
        raise ValueError(f"{FLAG} {uri}: {error}") from error
    if _is_of_a_run(uri):  # whose name is taken
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, name=""))
    return config


def _file_in(argv: list[str]) -> str:
    """The value of the option in ``argv``, which is read before all others."""
    for word, following in zip(argv, [*argv[1:], ""], strict=True):
        if word == FLAG:
            return following
        if word.startswith(f"{FLAG}="):
            return word.partition("=")[2]
    return ""


def _beside(uri: str) -> str:
    """The run.json of the run whose config.json, or whose folder, ``uri`` is."""
    folder = uri.rstrip("/")
    if folder.endswith(f"/{CONFIG_NAME}") or folder == CONFIG_NAME:
        folder = folder[: -len(CONFIG_NAME)] or "."
    return storage.join(folder, RUN_NAME)


def _is_of_a_run(uri: str) -> bool:
    return storage.exists(_beside(uri))


def _preset_of(uri: str) -> str:
    """What the run of this file, or folder, was started from; ``config`` for any other file."""
    beside = _beside(uri)
    if not storage.exists(beside):
        return "config"
    info = json.loads(decoded(storage.read_bytes(beside)))
    return str(info.get("preset", "config"))
