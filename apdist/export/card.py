"""README.md of a folder for the Hugging Face hub: a card made from what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from apdist.config import ModelConfig
from apdist.export.contents import Export
from apdist.export.parity import Parity
from apdist.figures import EVALUATION, Seen, figures_of_sets, main_keys
from apdist.training.events import Ended, Evaluated, SetMeasured
from apdist.training.run_folder.runs import Run

_UNSET = (
    "No licence was said when this was exported (`--license`): nobody may assume one. Those of the "
    "weights that the training started from, and of its images, may bind as well."
)
_DRAFT = """\
scale = {side} / min(picture.size)  # of a large JPEG a fraction is decoded, as the run does it
picture.draft("RGB", tuple(math.ceil(length * scale) for length in picture.size))
"""
_USE = """\
```python
import math

import numpy as np, onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
picture = Image.open("picture.jpg")
{draft}picture = ImageOps.exif_transpose(picture).convert("RGBA")
on_white = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
picture = on_white.convert("RGB"){resized}
pixels = np.asarray(picture)[None]
(descriptors,) = session.run(["descriptors"], {{"pixels": pixels}})  # (1, {dim})
```"""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What no file of the run says."""

    name: str
    """Title of the card."""
    license: str = ""
    """As the hub names it; empty: said to be unset."""
    counts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Images and classes of splits, as far as they are known."""
    num_shared: int = 0
    """Classes that were trained on, of those that are measured."""


def card(run: Run, export: Export, parity: Parity, said: Said) -> str:
    """The card of an ``export`` of ``run``, in Markdown.

    Args:
        run: with the history of its training.
        export: what the folder holds.
        parity: how well it agrees.
        said: title, licence and counts.
    """
    parts = [
        _header(run, said.license),
        f"# {plain(said.name)}",
        _what(export),
        "## Use\n\n" + _use(export),
        "## Data\n\n" + _data(run, said),
        "## Recipe\n\n" + _recipe(run),
        "## Figures\n\n" + _figures(run, export),
        "## Agreement with the run\n\n" + f"{str(parity).capitalize()}. Of files: decoded at "
        "full size; with the lines on large JPEGs above they are the same pixels.",
        "## Limits\n\n" + _limits(export),
        "## Licence\n\n" + (f"`{said.license}`" if said.license else _UNSET),
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """``text`` that is no Markdown and no HTML, in one line."""
    text = " ".join(text.split()).replace("<", "&lt;").replace("`", "'")
    return "".join(f"\\{mark}" if mark in "[]|*_" else mark for mark in text)


def _header(run: Run, license: str) -> str:  # noqa: A002
    tags = ["image-retrieval", "apdist", "onnx"]
    lines = ["library_name: apdist", "pipeline_tag: image-feature-extraction", "tags:"]
    lines += [f"- {tag}" for tag in tags]
    # JSON is YAML, and quotes what a person named.
    backbone = run.config.model.backbone
    if backbone.startswith("hub:") and not backbone.startswith(("hub:/", "hub:.")):
        lines.append(f"base_model: {json.dumps(backbone.removeprefix('hub:'))}")
    if license:
        lines.append(f"license: {license}")
    return "\n".join(["---", *lines, "---"])


def _what(export: Export) -> str:
    steps = "".join(f"\n{number}. {plain(step)}" for number, step in enumerate(export.inside, 1))
    return (
        f"Pictures to descriptors of {export.dim} numbers of unit length, for search by "
        f"similarity: their inner product is the cosine. Model id `{export.model_id}`: descriptors "
        "of another id cannot be compared with these.\n\nAll of this is inside of `model.onnx`:\n"
        f"{steps}"
    )


def _use(export: Export) -> str:
    draft, resized, taken = _DRAFT, "", "of any height and width, one size a batch"
    if export.shape:
        height, width = export.shape
        taken = f"of {width} x {height} pixels"
        draft, resized = "", f".resize(({width}, {height}))"
    pixels = f"`pixels` (n, height, width, 3) uint8, red green blue, upright, {taken}"
    draft = draft.format(side=export.fit.side)
    code = _USE.format(dim=export.dim, draft=draft, resized=resized)
    other = ""
    if export.describing:
        other = (
            f", gives the network alone: {export.network.dim} numbers of model id "
            f"`{export.model_id.partition('-')[0]}`, which cannot be compared with those of "
            "`model.onnx`"
        )
    return (
        f"{code}\n\nIt takes {pixels}, and gives `descriptors` (n, {export.dim}) float32. In "
        f'apdist: `apdist.model.load_model("FOLDER")`, with the folder of these files{other}; a '
        "training starts from them with `--model.weights FOLDER/model.safetensors`."
    )


def _data(run: Run, said: Said) -> str:
    data = run.config.data
    # The name alone: where a person keeps images is nobody's business.
    name = data.shards.rstrip("/").rpartition("/")[2]
    lines = [f"- Images: {plain(name)}", f"- Trained on the split {plain(data.train_split)!r}"]
    if data.eval_split:
        lines.append(f"- Measured on the split {plain(data.eval_split)!r}")
    lines += [
        f"- Split {plain(split)!r}: {images:,} images of {classes:,} classes"
        for split, (images, classes) in said.counts.items()
    ]
    if data.eval_split in said.counts:
        seen = f"{said.num_shared:,} of its classes were" if said.num_shared else "no class was"
        lines.append(f"- Of the split {plain(data.eval_split)!r} {seen} trained on")
    if data.exclude:
        lines.append("- A list of images was left out of the training")
    return "\n".join(lines)


def _recipe(run: Run) -> str:
    config, training = run.config, run.config.training
    if "origin" in run.info:
        origin = run.info["origin"]
        return "A published model, converted and not trained here: " + ", ".join(
            f"{key} {plain(str(value))}" for key, value in origin.items() if isinstance(value, str)
        )
    rows = {
        "backbone": config.model.backbone,
        "started from": _start(config.model),
        "loss": config.loss.shown,
        "steps": f"{run.steps_done} of {training.steps}",
        "images a step": training.batch_size * training.accumulate,
        "side of images": config.data.image_size,
        "optimiser": f"{training.optimizer}, learning rate {training.learning_rate:g}",
        "seed": training.seed,
        "weights": "".join(event.weights for event in run.of_kind(Ended)[-1:]),
    }
    body = [f"| {key} | {plain(str(value))} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *body])


def _start(model: ModelConfig) -> str:
    if model.weights:
        return f"the file {model.weights.rstrip('/').rpartition('/')[2]}"
    is_published = model.backbone.startswith("hub:") or model.backbone == "efficientnet_lite0"
    return "the backbone's published weights" if is_published else "random weights"


def _figures(run: Run, export: Export) -> str:
    measured: dict[str, list[Evaluated]] = {}
    for event in run.of_kind(Evaluated):
        measured.setdefault(event.split, []).append(event)
    parts = [_of_split(split, events) for split, events in measured.items()]
    parts += [_of_sets(run.of_kind(SetMeasured))] * bool(run.of_kind(SetMeasured))
    if not parts:
        return "Nothing was measured in this run: `apdist evaluate` does."
    if export.describing:
        parts.insert(
            0,
            "**Measured of the run's own way, without the options of this export** "
            f"({plain(json.dumps(export.describing))}): measure those with `apdist evaluate`.",
        )
    return "\n\n".join(parts)


def _of_split(split: str, events: list[Evaluated]) -> str:
    after = events[-1]
    shown = [after] if events[0].step else [events[0], after]  # the former: a trial of a sweep
    rows = [
        f"| {figure.label} | "
        f"{' | '.join(figure.number(event.figures[figure.key]) for event in shown)} | "
        f"{figure.convention} |"
        for figure in EVALUATION
        if Seen.CONSOLE in figure.seen and all(figure.key in e.figures for e in shown)
    ]
    queries = after.figures.get("num_queries")
    asked = f"{queries:.0f} images, each a query" if queries else "Each image is a query"
    head = (
        f"Split {plain(split)!r}. {asked} against all others of the split; right are those of its "
        f"label. {'Before the first step and a' if shown[1:] else 'A'}fter step {after.step}."
    )
    columns = "| before | after" if shown[1:] else "| after"
    lines = [f"| {columns} | what it counts |", f"|---{'|---:' * len(shown)}|---|"]
    return "\n".join([head, "", *lines, *rows])


def _of_sets(events: Iterable[SetMeasured]) -> str:
    last = {event.name: event for event in events}
    labels = figures_of_sets()
    rows = [
        f"| {plain(event.name)} | {plain(event.protocol)} | {event.num_queries} | {labels[key]} | "
        f"{event.figures[key]:.4f} |"
        for event in last.values()
        for key in main_keys(event.figures)
    ]
    head = "Other images, each by its protocol; nothing was chosen by them."
    return "\n".join(
        [
            head,
            "",
            "| set | protocol | queries | figure | after |",
            "|---|---|---:|---|---:|",
            *rows,
        ]
    )


def _limits(export: Export) -> str:
    shape = (
        f"The graph takes images of {export.shape[1]} x {export.shape[0]} pixels only."
        if export.shape
        else "A batch holds images of one size; the graph resizes them itself."
    )
    lines = [
        "The figures hold for the images above; on others measure again before you rely on them.",
        "A cosine is no probability: no threshold is calibrated; the nearest image may be wrong.",
        "Whatever bias the images have, similarity has it, too; nobody looked for one.",
        shape,
        "Colours are to be brought to sRGB before.",
    ]
    return "\n".join(f"- {line}" for line in lines)
