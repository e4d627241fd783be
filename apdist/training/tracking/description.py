"""What stands above the figures of a run in MLflow: what came of it, in Markdown."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from apdist.data import storage
from apdist.figures import EVALUATION, Seen
from apdist.training.events import Ended, Evaluated, Noticed

if TYPE_CHECKING:
    from apdist.training.run_folder.runs import Run

SIGNED = "_Written by apdist; a text of yours in its place stays._"
"""Last line, by which a text of a person is told from ours."""
LONGEST = 7900
"""Characters of a description: MLflow cuts a tag at 8000."""
_PICTURE_BYTES = 4500
_LONGEST_NOTICE = 300


def described(run: Run, picture: str = "") -> str:
    """What ``run`` is and what came of it, as far as it has come.

    Args:
        run: the run.
        picture: of ranked queries, as `picture` makes it.
    """
    ended = "".join(f"Weights: {event.weights}." for event in run.of_kind(Ended)[-1:])
    notices = [f"- Step {n.step}: {_plain(n.text)[:_LONGEST_NOTICE]}" for n in run.of_kind(Noticed)]
    config = run.config
    what = (
        f"`{_plain(config.model.backbone)}`, {config.model.dim or 'pooled'} dimensions, loss "
        f"`{_plain(config.loss.shown)}`, {run.steps_done} of {config.training.steps} steps of "
        f"{config.training.batch_size * config.training.accumulate} images on "
        f"`{_plain(storage.shown(config.data.shards))}`."
    )
    parts = [what, *_table(run), ended, "\n".join(notices[-5:])]
    text = "\n\n".join(part for part in parts if part)
    left = LONGEST - len(SIGNED) - 2 * len("\n\n")
    image = f"![ranked queries]({picture})" if picture else ""
    if len(image) + len(text) > left:
        image = ""  # figures first
    return "\n\n".join(part for part in (text[: left - len(image)], image, SIGNED) if part)


def _table(run: Run) -> list[str]:
    """The key figures of each split that was measured, before and after."""
    measured: dict[str, list[Evaluated]] = {}
    for event in run.of_kind(Evaluated):
        measured.setdefault(event.split, []).append(event)
    if not measured:
        return []
    head = "| | " + " | ".join(f"{_cell(split)}: before | after" for split in measured) + " |"
    rows = [head, "|---|" + "---:|" * 2 * len(measured)]
    for figure in EVALUATION:
        if Seen.LOG in figure.seen and Seen.CONSOLE in figure.seen:
            numbers = [
                figure.number(event.figures[figure.key]) if figure.key in event.figures else ""
                for events in measured.values()
                for event in (events[0], events[-1])
            ]
            rows.append(f"| {figure.label} | " + " | ".join(numbers) + " |")
    return ["\n".join(rows)]


def picture(gallery: Path) -> str:
    """The picture in ``gallery`` small enough to be part of a description; empty: it is not.

    An address of the server would be another one from each place, and with each way to serve.
    """
    from PIL import Image

    with Image.open(gallery) as found:
        rgb = found.convert("RGB")
    for side in (640, 480, 360, 280, 220):
        small = rgb.copy()
        small.thumbnail((side, side))
        for quality in (60, 40, 25):
            data = io.BytesIO()
            small.save(data, format="WEBP", quality=quality, method=6)
            if data.tell() <= _PICTURE_BYTES:
                return "data:image/webp;base64," + base64.b64encode(data.getvalue()).decode()
    return ""


def _plain(text: str) -> str:
    """``text`` that is no Markdown and no HTML."""
    return text.replace("<", "&lt;").replace("`", "'").replace("\n", " ")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")
