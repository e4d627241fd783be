"""Every verb in turn on the embedded data set, and what came of it."""

import os
import shlex
import sys
import time
from pathlib import Path

from apdist.data import storage
from apdist.data.catalogue.catalogue import CATALOGUE_NAME
from apdist.data.loading.reader import ImageReader
from apdist.retrieval.metrics import RetrievalScores
from apdist.training.events import StepDone
from apdist.training.run_folder.runs import Run
from apdist_verbs import index, report, search
from apdist_verbs.describe_options import PLAIN
from apdist_verbs.described import Described, describe, trained_model
from apdist_verbs.measure.labelled import comparison_rows, score_own_split, scores_before
from apdist_verbs.prepare.glyphs import PrepareGlyphs, prepare_glyphs
from apdist_verbs.presets import preset
from apdist_verbs.start.completing import with_absolute_paths
from apdist_verbs.start.running import new_run, train_run
from apdist_verbs.terminal.console import say, table


def tour() -> int:
    """Draw, train, evaluate, index, search, report; returns the exit code."""
    started = time.monotonic()
    config = with_absolute_paths(preset("glyphs"))
    if not storage.exists(storage.join(config.data.shards, CATALOGUE_NAME)):
        _heading("1. draw the data set: characters in the typefaces that matplotlib ships")
        prepare_glyphs(PrepareGlyphs(out=config.data.shards))
    _heading("2. train on Ray workers: one global AP batch a step, in three stages")
    run = new_run(config, "glyphs")
    if code := train_run(run):
        return code
    _heading("3. evaluate, index and search characters that were never trained on")
    after = score_own_split(run)
    folder = index.make_index(run, index.Options(run=run.uri))
    query = example_query(run)
    search.search(run, [str(query)], search.Options(query=(str(query),), run=run.uri, k=5))
    page = report.make_report(run, report.Options(run=run.uri))
    show(run, scores_before(run), after, [page, folder, run.uri])
    say(f"\nall of it took {time.monotonic() - started:.0f} s; try next:")
    for command in (
        ["mlflow", "ui", "--backend-store-uri", run.config.tracking.uri],
        ["apdist", "search", os.path.relpath(query), "--run", os.path.relpath(run.uri)],
        ["apdist", "prepare", "folder", "YOUR_IMAGES", "--out", "data/mine"],
    ):
        say(f"  {shlex.join([installed(command[0]), *command[1:]])}")
    return 0


def installed(name: str) -> str:
    """Where the command ``name`` of this environment lies: short where it is below this folder."""
    path = Path(sys.executable).parent / name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def example_query(run: Run) -> Path:
    """Write one image of the test split beside the run, to search with."""
    found = _described(run)
    row = len(found.catalogue) // 2
    path = Path(run.uri, "example-query.jpg")
    path.write_bytes(ImageReader(found.catalogue).read_one(row))
    say(f"query: {found.catalogue.table['label_name'][row].as_py()}")
    return path


def show(
    run: Run, before: RetrievalScores | None, after: RetrievalScores, paths: list[str]
) -> None:
    """The table of the demo and where everything lies."""
    assert before is not None
    say("")
    table(
        f"{after.num_queries} images of unseen characters, each against the rest",
        ["", "untrained", "trained"],
        comparison_rows(before, after),
    )
    seconds = sum(step.figures["seconds"] for step in run.of_kind(StepDone))
    say(f"training steps took {seconds:.0f} s")
    for what, path in zip(("report", "index", "run"), paths, strict=True):
        say(f"{what}: {path}")


def _described(run: Run) -> Described:
    model = trained_model(run)
    where = run.config.data.shards, run.config.data.eval_split
    return describe(run.uri, model.model_id, *where, PLAIN)  # as the others ask: described once


def _heading(text: str) -> None:
    say(f"\n{text}\n{'-' * len(text)}")
