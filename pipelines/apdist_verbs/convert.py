"""``apdist convert FILE OUT``: a published model as a run that every verb takes."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from apdist.config import Config, override
from apdist.config.training import Resize
from apdist.config.values import in_range
from apdist.data import storage
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.model.published.published import Published
    from apdist.model.whitening import Whitening

PRESET = "converted"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Make a published model a run that every verb takes; no code that is in the file is run."""

    file: Annotated[str, positional("FILE")]
    """Checkpoint of AP-GeM (dirtorch) or of cirtorch, or a ResNet by torchvision's names."""
    out: Annotated[str, positional("OUT")]
    """Folder or s3:// prefix for the run; nothing may be there."""
    shards: Annotated[str, shown_default("none; the other verbs take --shards")] = ""
    """Folder or s3:// prefix with the shards that the run is measured on."""
    split: str = "test"
    """Split of them that it is measured on."""
    image_size: int = 1024
    """Longer side in pixels of the images that are described, or the side of their square."""
    resize: Resize = "shrink"
    """shrink: all of an image, at most of that side; longest: smaller ones enlarged, too; crop: the
    square in its middle."""
    backbone: Annotated[str, shown_default("the file's")] = ""
    """Network, if the file does not say it."""
    pooling: Literal["file", "gem", "max", "mean", "rmac"] = "file"
    """Pooling, if the file does not say it: one that holds a backbone alone."""
    gem_p: Annotated[float, shown_default("the file's, or 3")] = 0.0
    """Exponent of GeM, if the file does not say it."""
    pixel_mean: Annotated[tuple[float, ...], shown_default("the file's")] = ()
    """Means of red, green and blue in [0, 1], if the file does not say them."""
    pixel_std: Annotated[tuple[float, ...], shown_default("the file's")] = ()
    """Deviations of red, green and blue, if the file does not say them."""
    whiten_power: float = 0.25
    """Power of the variances that a PCA in the file divides by; figures of AP-GeM have 0.25."""
    learned_on: Annotated[str, shown_default("the file's")] = ""
    """Images that a PCA in the file was learned from, by name, if the file does not say it."""

    def __post_init__(self) -> None:
        in_range("--whiten-power", self.whiten_power, 0, 1)
        self.config()

    def config(self) -> Config:
        """Options of a run that the file says nothing about."""
        changes: dict[str, Any] = {
            "data.image_size": self.image_size,
            "data.eval_split": self.split,
            "evaluation.resize": self.resize,
        }
        if self.shards:
            changes["data.shards"] = storage.absolute(self.shards)
        return override(Config(), changes)


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist convert")
    with phase("loading"):
        from apdist.model.published.published import Given
        from apdist.model.published.reading import read_published

    out = storage.absolute(options.out)
    refuse_there(out)
    name = storage.shown(options.file)
    with phase("reading the file"):
        data = storage.read_bytes(options.file)
        given = Given(
            pooling="" if options.pooling == "file" else options.pooling,
            **{
                field.name: getattr(options, field.name)
                for field in dataclasses.fields(Given)
                if field.name != "pooling"
            },
        )
        model = read_published(data, name, given)
    origin = {
        "file": name,
        "sha256": hashlib.sha256(data).hexdigest(),
        "kind": model.kind,
        "has_shards": bool(options.shards),
    }
    with phase("writing the run"):
        write_whole(out, model, options.config(), origin)
    tell(out, model, options)
    return 0


def refuse_there(out: str) -> None:
    """Refuse to write where something lies at ``out``.

    Raises:
        ValueError: something does.
    """
    path = storage.local_path(out)
    is_there = path is not None and os.path.lexists(path) and not path.is_dir()
    if is_there or not storage.is_empty(out):
        raise ValueError(f"{out} exists; choose another OUT, or remove it")


def write_whole(out: str, model: Published, config: Config, origin: dict[str, Any]) -> None:
    """Write the folder of the run: all of it, or nothing."""
    path = storage.local_path(out)
    # In object storage config.json comes last: before it nothing there is a run.
    target = out if path is None else str(path.with_name(f".{path.name}.{os.getpid()}"))
    try:
        _write(target, out, model, config, origin)
        if path is not None:
            os.replace(target, path)
    except BaseException:
        if path is not None:
            shutil.rmtree(target, ignore_errors=True)
        raise


def _write(folder: str, out: str, model: Published, config: Config, origin: dict[str, Any]) -> None:
    from apdist.model.kept_whitenings import keep_whitening
    from apdist.model.pretrained import WEIGHTS_NAME, save_model
    from apdist.training.events import Ended, now_ms
    from apdist.training.run_folder.runs import Run

    network = model.network()
    fit = dataclasses.replace(
        network.fit(config.data.image_size, config.evaluation.resize),
        interpolation=model.interpolation,
    )
    about: dict[str, float | str] = {key: str(origin[key]) for key in ("file", "sha256", "kind")}
    for name, whitening in model.whitenings.items():
        keep_whitening(whitening, folder, name)
    model_id = save_model(network, network.state_dict(), fit, folder, about)
    # A training from these options starts with these weights.
    weights = storage.join(out, WEIGHTS_NAME)
    own = dataclasses.replace(model.config, weights=weights)
    run = Run(folder, dataclasses.replace(config, model=own), PRESET)
    run.save_info(origin=origin)
    ended = f"as published, from {origin['file']}"
    run.history.append(
        Ended(step=0, time_ms=now_ms(), model_id=model_id, weights=ended, is_early=True)
    )
    run.save_history()
    run.save_config()


def tell(out: str, model: Published, options: Options) -> None:
    """Say what the model is, and the command that is next."""
    config, run = model.config, near(out)
    pooling = f"gem, p {config.gem_p:.4g}" if config.pooling == "gem" else config.pooling
    head = f"linear layer to {config.dim}" if config.dim else "no linear layer"
    say(f"{run}: {model.kind}: {config.backbone}, {pooling}, {head}")
    if model.whitenings:
        shown = [name + _scales_of(learned) for name, learned in model.whitenings.items()]
        say(f"whitenings: {', '.join(shown)}")
    shards = [] if options.shards else ["--shards", "SHARDS"]
    say_next("measure it", "evaluate", "--run", run, *shards)


def _scales_of(learned: Whitening) -> str:
    """`` (with --scales 1 0.5 --scale-power 3)``; empty where one scale is meant, or none known."""
    if len(learned.scales) < 2:
        return ""
    scales = " ".join(f"{scale:g}" for scale in learned.scales)
    power = f" --scale-power {learned.scale_power:g}" if learned.scale_power != 1 else ""
    return f" (with --scales {scales}{power})"
