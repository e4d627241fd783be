"""Everything that the page of one run shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from shlex import quote
from typing import Any

from apdist.addresses import without_secrets
from apdist.config import flatten
from apdist.config.run import AUTO
from apdist.config.values import shown
from apdist.data import storage
from apdist.report.report import Report, choose_queries
from apdist.retrieval.metrics import RetrievalScores
from apdist.training.events import (
    Ended,
    Evaluated,
    Noticed,
    SetMeasured,
    Similarities,
    StepDone,
    to_json,
)
from apdist.training.run_folder.runs import Run
from apdist.training.time_spent import time_spent
from apdist_verbs.described import Described, shards_of, split_name
from apdist_verbs.measure.labelled import (
    is_own,
    score_split,
    scores_before,
    scores_of_first_numbers,
    source_of,
)
from apdist_verbs.measure.options import Options as EvaluateOptions
from apdist_verbs.pages.shown import Showing


@dataclass(frozen=True, kw_only=True)
class Images:
    """Which images a run is shown on, and how many of them."""

    shards: str = ""
    """Empty: those of the run."""
    split: str = ""
    """Empty: the run's evaluation split."""
    queries: int
    """Number of queries under each heading."""
    results: int
    """Number of results of each query."""
    on_map: int


@dataclass(frozen=True)
class MeasuredRun:
    """A run, its figures, and what it says of each image."""

    run: Run
    where: str
    split: str
    found: Described
    after: RetrievalScores
    before: RetrievalScores | None
    """Of the same images; None where they were not measured before training."""
    of_first: dict[int, RetrievalScores]
    """Of the first numbers of each descriptor, by how many; where it was trained to be cut."""


def measure_run(run: Run, images: Images) -> MeasuredRun:
    """Describe and score the images; figures of the run's own split are kept in its folder."""
    options = EvaluateOptions(shards=images.shards, split=images.split)
    source = source_of(run, options)
    split = images.split or split_name(run)
    after = score_split(source, options)
    before = scores_before(run) if is_own(options, source.describing) else None
    if before and len(before.average_precision) != len(after.average_precision):
        before = None  # the shards were written anew since
    where = shards_of(run, images.shards)
    of_first = scores_of_first_numbers(source, options)
    return MeasuredRun(run, where, split, source.split(split), after, before, of_first)


def compose(measured: MeasuredRun, images: Images, max_bytes: int) -> Report:
    """Everything the page shows."""
    run, after = measured.run, measured.after
    showing = Showing(measured.found, after, measured.before)
    chosen = choose_queries(after.average_precision, num_each=images.queries)
    gallery = tuple(showing.ranked(chosen, images.results))
    confusions = showing.confusions()
    drawn = showing.map(gallery, images.on_map)
    on_page = {query.label_id for query in gallery}
    on_page |= {label for pair in confusions for label in (pair.label, pair.other)}
    on_page |= {island.label_id for island in drawn.islands} if drawn else set()
    config = run.config
    return Report(
        title=run.name,
        summary=(
            f"{summary(run)}; measured on {after.num_queries} images of the split "
            f"{measured.split!r}"
        ),
        settings=settings(run),
        before=measured.before,
        after=after,
        history=[to_json(step) for step in run.of_kind(StepDone)],
        evaluations=[measured_at(event) for event in run.of_kind(Evaluated)],
        sets=[to_json(event) for event in run.of_kind(SetMeasured)],
        similarities=[to_json(event) for event in run.of_kind(Similarities)],
        notices=tuple(f"Step {event.step}: {event.text}" for event in run.of_kind(Noticed)),
        gallery=gallery,
        classes=showing.classes(on_page),
        confusions=confusions,
        map=drawn,
        facts=facts(measured),
        next_commands=(
            ("search with a picture", f"apdist search PICTURE --run {quote(_typed(run))}"),
            (
                "see the curves in MLflow",
                f"mlflow ui --backend-store-uri {quote(without_secrets(config.tracking.uri))}",
            ),
            ("train on your own pictures", "apdist train folder IMAGES"),
        ),
        max_bytes=max_bytes,
    )


def settings(run: Run) -> dict[str, str]:
    """Dotted option name to value."""
    return {name: without_secrets(shown(value)) for name, value in flatten(run.config).items()}


def summary(run: Run) -> str:
    """The network and how it was trained, in a line."""
    config = run.config
    batch = config.training.batch_size * config.training.accumulate
    workers = config.ray.num_workers
    trained = f"{len(run.of_kind(StepDone))} steps of {batch} images"
    if workers != AUTO:  # as many as there were GPUs, which the history does not tell
        trained += f" on {workers or 1} worker{'' if workers in (0, 1) else 's'}"
    trained += f", loss {config.loss.shown}"
    if origin := run.info.get("origin"):
        trained = f"{origin['kind']} {origin['file']}, as published"
    size = f"{config.model.dim}-d" if config.model.dim else "pooled"
    return f"{config.model.backbone} network, {size} descriptors, {trained}"


def facts(measured: MeasuredRun) -> dict[str, str]:
    """What else is worth knowing."""
    run = measured.run
    config, steps = run.config, run.of_kind(StepDone)
    seconds, spent = sum(step.figures["seconds"] for step in steps), time_spent(run.history)
    advice = spent.advice()
    batch = config.training.batch_size * config.training.accumulate
    of_first = {
        f"first {size} numbers": f"mAP {scores.mean_average_precision:.4f}"
        for size, scores in measured.of_first.items()
    }
    return {
        **of_first,
        "training steps": f"{seconds:.0f} s for {len(steps)} steps",
        "throughput": f"{batch * len(steps) / max(seconds, 1e-9):.0f} images/s",
        "global AP batch": f"{batch} images",
        "data": storage.shown(measured.where),
        "run": run.uri,
        "weights": "".join(event.weights for event in run.of_kind(Ended)[-1:]),
        "where the time went": f"{spent}. {advice[:1].upper()}{advice[1:]}.",
    }


def measured_at(event: Evaluated) -> dict[str, Any]:
    """An evaluation at the step whose weights it measured."""
    plain = to_json(event)
    return plain if event.of_step < 0 else plain | {"step": event.of_step}


def _typed(run: Run) -> str:
    path = storage.local_path(run.uri)
    return run.uri if path is None else os.path.relpath(path)
