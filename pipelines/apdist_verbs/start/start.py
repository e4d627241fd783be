"""What a training starts from: a preset, a file of options, and perhaps a folder of pictures."""

import dataclasses
import os
import shlex
import sys
from dataclasses import dataclass, field
from typing import Annotated, Any

from apdist.config import Config, override
from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.text import decoded
from apdist.training.run_folder.runs import CONFIG_NAME, RUN_NAME, SWEEP
from apdist_verbs.prepare.folder import Choices
from apdist_verbs.prepare.table import TableColumns
from apdist_verbs.presets import PRESETS, preset
from apdist_verbs.start.checks import refuse_incomplete, refuse_useless
from apdist_verbs.terminal import options
from apdist_verbs.terminal.fields import Argument, positional

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FLAG = "--config"
FORK = "--fork"
COMMON = (
    *("--data.shards", "--data.eval-split", "--data.image-size", "--data.group-size"),
    *("--model.backbone", "--model.dim", "--training.steps", "--training.batch-size"),
    *("--training.chunk-size", "--training.learning-rate", "--training.seed"),
    *("--evaluation.every-steps", "--ray.num-workers", "--ray.use-gpu"),
    *("--tracking.enabled", "--run.name"),
)
"""Options that most people change; a help begins with them."""


@dataclass(frozen=True, kw_only=True)
class Configured:
    """The options of a training, and the file that they start from."""

    config_file: Annotated[str, Argument(name="config", hint="default: none")] = ""
    """Start from the options in this file, a run's config.json or the same in TOML, or a run's
    folder; options on the command line replace those in it."""
    config: Annotated[Config, Argument(name="")] = field(default_factory=Config)


@dataclass(frozen=True, kw_only=True)
class Options(Configured, Choices, TableColumns):
    """Train with the three-stage average-precision step."""

    images: Annotated[str, positional("IMAGES")] = ""
    """Folder of pictures, IMAGES/<class>/<image>, or with one list of them; or a .csv, .tsv or
    .parquet file. They are prepared into a cache, and again when they have changed."""


@dataclass(frozen=True)
class Start:
    """What a training or a sweep starts from, before the options on top."""

    name: str
    """The preset; of a file that is no run's, ``config``."""
    config: Config
    words: tuple[str, ...]
    """What stands after the verb to start there again."""
    prog: str
    """The command up to its options, as a person types it."""


def read_start(argv: list[str]) -> tuple[str, Options]:
    """The name of what a training starts from, and its options.

    Raises:
        ValueError: neither a preset nor a file, or an option is wrong.
    """
    start, given = start_of(argv, "train", "PRESET [IMAGES]")
    default = Options(config=start.config)
    found = options.parse(Options, given, start.prog, default=default, common=COMMON)
    refuse_incomplete(found.config)
    refuse_useless(given, found.config.loss)
    if found.images and found.config.data.shards != start.config.data.shards:
        raise ValueError(
            f"give pictures ({found.images}) or --data.shards {found.config.data.shards}, not both"
        )
    return start.name, found


def start_of(argv: list[str], verb: str, usage: str) -> tuple[Start, list[str]]:
    """What ``argv`` starts from, and the options in it.

    Args:
        argv: what stands after the verb.
        verb: train or sweep.
        usage: what stands after it where no file is given.

    Raises:
        ValueError: neither a preset nor a file, or an option in the file is wrong.
    """
    refuse_resuming(argv, verb)
    first = "" if argv[0].startswith("-") else argv[0]
    given = argv[1:] if first else argv
    if first not in PRESETS and os.path.exists(first):
        raise ValueError(f"a preset comes first: apdist {verb} folder {shlex.quote(first)}")
    name, config = first, preset(first) if first else Config()
    file = file_in(given)
    if file:
        config = read_file(file, config)
        name = name or _preset_of(file)
    elif not first and not {"-h", "--help", "--help-all"} & set(given):
        raise ValueError(
            f"expected `apdist {verb} {usage}` or `apdist {verb} {FLAG} FILE`, "
            f"got {argv[0]!r} first"
        )
    words = (*([first] if first else []), *([FLAG, file] if file else []))
    return Start(name, config, words, f"apdist {verb} {first}".strip()), given


def refuse_resuming(argv: list[str], verb: str) -> None:
    """Refuse what goes on with a run among the options that begin one.

    Raises:
        ValueError: --resume or --fork is there.
    """
    names = {word.partition("=")[0] for word in argv}
    if "--resume" in names:
        raise ValueError(
            f"--resume comes first, and its run brings the options: apdist {verb} --resume RUN "
            "[OPTIONS]"
        )
    if "--fork" in names:
        raise ValueError("--fork belongs to --resume: apdist train --resume RUN --fork [OPTIONS]")


def read_file(uri: str, start: Config) -> Config:
    """``start`` with the options in a file; what it does not name stays.

    Raises:
        ValueError: it cannot be read, or an option in it is unknown or wrong.
    """
    if not storage.exists(uri) and storage.exists(storage.join(uri, CONFIG_NAME)):
        uri = storage.join(uri, CONFIG_NAME)
    try:
        text = decoded(storage.read_bytes(uri))
        nested: Any = tomllib.loads(text) if uri.endswith(".toml") else read_json(text)
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


def file_in(argv: list[str]) -> str:
    """The value of the option in ``argv``, which is read before all others."""
    for place, word in enumerate(argv):
        if word == FLAG:
            return "".join(argv[place + 1 : place + 2])
        if word.startswith(f"{FLAG}="):
            return word.partition("=")[2]
    return ""


def _run_json_of(uri: str) -> str:
    """The run.json of the run whose config.json, or whose folder, ``uri`` is."""
    folder = uri.rstrip("/")
    if folder.endswith(f"/{CONFIG_NAME}") or folder == CONFIG_NAME:
        folder = folder[: -len(CONFIG_NAME)] or "."
    return storage.join(folder, RUN_NAME)


def _is_of_a_run(uri: str) -> bool:
    return storage.exists(_run_json_of(uri))


def _preset_of(uri: str) -> str:
    """What the run, or sweep, of this file was started from; ``config`` for any other file."""
    run_json = _run_json_of(uri)
    if not storage.exists(run_json):
        return "config"
    info = read_json(decoded(storage.read_bytes(run_json)))
    return str(info.get("preset", "config")).removeprefix(SWEEP)


def run_and_options(argv: list[str]) -> tuple[str, list[str]]:
    """The folder of the run, and the options that replace its own.

    Raises:
        ValueError: no run is named.
    """
    if not argv or not argv[0] or argv[0].startswith("-"):
        raise ValueError("expected `apdist train --resume RUN [OPTIONS]`, RUN a folder under runs/")
    return argv[0], [word for word in argv[1:] if word != FORK]
