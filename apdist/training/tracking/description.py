"""What stands above the figures of a run in MLflow: what came of it, in Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apdist.data import storage
from apdist.figures import EVALUATION, Seen
from apdist.training.events import Ended, Evaluated, Noticed

if TYPE_CHECKING:
    from apdist.training.run_folder.runs import Run

SIGNED = "_Written by apdist; a text of yours in its place stays._"
"""Last line, by which a text of a person is told from ours."""
GALLERY = "gallery.jpg"
"""Name of the picture of ranked queries among the files."""
LONGEST = 7000
"""Characters of a description without picture and last line: MLflow cuts a tag at 8000."""
_PICTURE_SIDE = 640
_LONGEST_NOTICE, _MOST_NOTICES = 300, 5


def described(run: Run) -> str:
    """What ``run`` is and what came of it, as far as it has come."""
    ended = "".join(f"Weights: {_plain(event.weights)}." for event in run.of_kind(Ended)[-1:])
    notices = [f"- Step {n.step}: {_plain(n.text)[:_LONGEST_NOTICE]}" for n in run.of_kind(Noticed)]
    config = run.config
    what = (
        f"`{_plain(config.model.backbone)}`, {config.model.dim or 'pooled'} dimensions, loss "
        f"`{_plain(config.loss.shown)}`, {run.steps_done} of {config.training.steps} steps of "
        f"{config.training.batch_size * config.training.accumulate} images on "
        f"`{_plain(storage.shown(config.data.shards))}`."
    )
    parts = [what, _table(run), ended, "\n".join(notices[-_MOST_NOTICES:])]
    return "\n\n".join(part for part in parts if part)[:LONGEST]


def signed(text: str, run_id: str, is_illustrated: bool) -> str:
    """``text`` with the picture of ranked queries, where it lies beside the run, and our line."""
    picture = [_picture(run_id)] if is_illustrated else []
    return "\n\n".join([text, *picture, SIGNED])


def is_ours(text: str) -> bool:
    """Whether a description may be replaced: no person has written it."""
    return not text or SIGNED in text


def is_illustrated(text: str, run_id: str) -> bool:
    """Whether a description shows the picture."""
    return _picture(run_id) in text


def _picture(run_id: str) -> str:
    # MLflow's pages drop pictures that are part of a text, and show those of their own server.
    return f"![ranked queries](get-artifact?path={GALLERY}&run_uuid={run_id})"


def _table(run: Run) -> str:
    """The key figures of each split that was measured, before and after; that of the test first."""
    measured: dict[str, list[Evaluated]] = {}
    for event in run.of_kind(Evaluated):
        measured.setdefault(event.split, []).append(event)
    if not measured:
        return ""
    first = run.config.data.eval_split
    measured = dict(sorted(measured.items(), key=lambda entry: entry[0] != first))
    columns = [
        (f"{_cell(split)} {when}", event)
        for split, events in measured.items()
        # A trial of a sweep is measured at its end alone.
        for when, event in (("before", events[0]), ("after", events[-1]))
        if when == "after" or not event.step
    ]
    rows = [_row("", [head for head, _ in columns]), "|---" * (1 + len(columns)) + "|"]
    for figure in EVALUATION:
        if Seen.LOG in figure.seen and Seen.CONSOLE in figure.seen:
            numbers = [
                figure.number(event.figures[figure.key]) if figure.key in event.figures else ""
                for _, event in columns
            ]
            rows += [_row(figure.label, numbers)] if any(numbers) else []
    return "\n".join(rows)


def _row(label: str, cells: list[str]) -> str:
    # MLflow's pages draw columns without room between them.
    return "| " + " | ".join(f"{cell}&emsp;" for cell in (label, *cells)) + " |"


def small_picture(gallery: Path, target: Path) -> None:
    """Write the picture in ``gallery`` as a JPEG that fits the page of a run."""
    from PIL import Image

    with Image.open(gallery) as found:
        small = found.convert("RGB")
    small.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    small.save(target, format="JPEG", quality=85)


def _plain(text: str) -> str:
    """``text`` that is no Markdown and no HTML."""
    return text.replace("<", "&lt;").replace("`", "'").replace("\n", " ")


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")
