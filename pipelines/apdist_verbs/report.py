"""``apdist report``: report.html of a run, one self-contained page."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from apdist.config import flatten
from apdist.config.values import shown
from apdist.data import storage
from apdist.data.text import without_secrets
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
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.data.loading.reader import ImageReader
    from apdist.report.gallery import RankedImage, RankedQuery
    from apdist.report.report import Report
    from apdist.retrieval.metrics import RetrievalScores
    from apdist_verbs.described import Described


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write report.html of a run: settings, curves, scores and ranked queries."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run."""
    queries: int = 8
    """Queries under each heading: worst, median, best."""
    results: int = 10
    """Results shown for each query."""
    gallery: Annotated[Path, shown_default("none")] = Path()
    """A .png file for a picture of ranked queries."""

    def __post_init__(self) -> None:
        if self.queries < 1 or self.results < 1:
            raise ValueError("--queries and --results must be at least 1")
        if self.gallery != Path() and self.gallery.suffix.lower() != ".png":
            raise ValueError(f"--gallery {self.gallery} must end in .png")
        if not self.gallery.parent.is_dir():
            raise ValueError(f"--gallery {self.gallery}: there is no folder {self.gallery.parent}")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist report")
    with phase("loading"):
        from apdist_verbs.described import find_run

    run = find_run(options.run)
    say(f"report: {make_report(run, options)}")
    say_next("search with a picture", "search", "PICTURE.jpg", "--run", near(run.uri))
    return 0


def make_report(run: Run, options: Options) -> str:
    """Write the report into the run's folder and beside its curves in MLflow."""
    from apdist_verbs.described import describe, split_name, trained_model
    from apdist_verbs.evaluate import evaluate

    after = evaluate(run)
    model = trained_model(run)
    found = describe(run.uri, model.model_id, run.config.data.shards, split_name(run))
    with phase("drawing the report"):
        return draw(run, after, ranked_queries(found, after, options), options)


def draw(
    run: Run, after: RetrievalScores, gallery: tuple[RankedQuery, ...], options: Options
) -> str:
    """Write the page, and the picture if it is wanted; returns the page's place."""
    from apdist.report.report import write_gallery_png, write_report
    from apdist.training.tracking.following import log_report

    if options.gallery != Path():
        write_gallery_png(gallery, options.gallery)
    uri = storage.join(run.uri, "report.html")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        write_report(compose(run, after, gallery), page)
        storage.write_bytes(uri, page.read_bytes())
        picture = Path(folder, "gallery.png")
        write_gallery_png(few_of(gallery), picture)
        log_report(run, page, picture)
    return uri


def few_of(gallery: tuple[RankedQuery, ...]) -> list[RankedQuery]:
    """One query under each heading with its first results, for a small picture."""
    by_group = {query.group: query for query in reversed(gallery)}
    firsts = [by_group[group] for group in dict.fromkeys(query.group for query in gallery)]
    return [dataclasses.replace(query, results=query.results[:5]) for query in firsts]


def ranked_queries(
    found: Described, scores: RetrievalScores, options: Options
) -> tuple[RankedQuery, ...]:
    """The worst, median and best queries with the top of their ranked lists."""
    import torch

    from apdist.data.loading.reader import ImageReader
    from apdist.report.gallery import RankedQuery, choose_queries
    from apdist.retrieval.ranking import nearest_rows
    from apdist_verbs.terminal.devices import best_device

    chosen = choose_queries(scores.average_precision, num_each=options.queries)
    reader = ImageReader(found.catalogue)
    rows = torch.tensor([row for _, row in chosen])
    descriptors = found.descriptors.to(best_device())
    count = min(options.results + 1, len(descriptors))
    values, ranked = nearest_rows(descriptors[rows], descriptors, count)
    queries = []
    for (group, row), value, order in zip(chosen, values.tolist(), ranked.tolist(), strict=True):
        others = [(s, r) for s, r in zip(value, order, strict=True) if r != row]
        results = tuple(_image(found, reader, r, row, s) for s, r in others[: options.results])
        own = _image(found, reader, row, row, 1.0)
        queries.append(
            RankedQuery(
                image=own.image,
                label=own.label,
                key=own.key,
                average_precision=float(scores.average_precision[row]),
                results=results,
                group=group,
            )
        )
    return tuple(queries)


def _image(
    found: Described, reader: ImageReader, row: int, query: int, score: float
) -> RankedImage:
    from apdist.report.gallery import RankedImage

    table = found.catalogue.table
    return RankedImage(
        image=reader.read_one(row),
        label=str(table["label_name"][row].as_py()),
        score=score,
        is_hit=table["label"][row] == table["label"][query],
        key=str(table["source"][row].as_py()),
    )


def measured(event: Evaluated) -> dict[str, Any]:
    """An evaluation at the step whose weights it measured."""
    plain = to_json(event)
    return plain if event.of_step < 0 else plain | {"step": event.of_step}


def compose(run: Run, after: RetrievalScores, gallery: tuple[RankedQuery, ...]) -> Report:
    """Everything the page shows."""
    from apdist.report.report import Report
    from apdist.training.time_spent import time_spent
    from apdist_verbs.described import split_name
    from apdist_verbs.evaluate import scores_before

    config = run.config
    steps = run.of_kind(StepDone)
    seconds, spent = sum(step.figures["seconds"] for step in steps), time_spent(run.history)
    advice = spent.advice()
    batch = config.training.batch_size * config.training.accumulate
    workers = config.ray.num_workers
    path = storage.local_path(run.uri)
    command = run.uri if path is None else os.path.relpath(path)
    trained = (
        f"{len(steps)} steps of {batch} images on {workers or 1} "
        f"worker{'s' if workers > 1 else ''}, loss {config.loss.shown}"
    )
    if origin := run.info.get("origin"):
        trained = f"{origin['kind']} {origin['file']}, as published"
    return Report(
        title=run.name,
        summary=(
            f"{config.model.backbone} network, "
            f"{f'{config.model.dim}-d' if config.model.dim else 'pooled'} descriptors, "
            f"{trained}; measured on {after.num_queries} images of the split {split_name(run)!r}"
        ),
        settings={name: without_secrets(shown(value)) for name, value in flatten(config).items()},
        before=scores_before(run),
        after=after,
        history=[to_json(step) for step in steps],
        evaluations=[measured(event) for event in run.of_kind(Evaluated)],
        sets=[to_json(event) for event in run.of_kind(SetMeasured)],
        similarities=[to_json(event) for event in run.of_kind(Similarities)],
        notices=tuple(f"Step {event.step}: {event.text}" for event in run.of_kind(Noticed)),
        gallery=gallery,
        facts={
            "training steps": f"{seconds:.0f} s for {len(steps)} steps",
            "throughput": f"{batch * len(steps) / max(seconds, 1e-9):.0f} images/s",
            "global AP batch": f"{batch} images",
            "data": storage.shown(config.data.shards),
            "run": run.uri,
            "weights": "".join(event.weights for event in run.of_kind(Ended)[-1:]),
            "where the time went": f"{spent}. {advice[:1].upper()}{advice[1:]}.",
        },
        next_commands=(
            ("search with a picture", f"apdist search PICTURE --run {quote(command)}"),
            (
                "see the curves in MLflow",
                f"mlflow ui --backend-store-uri {quote(without_secrets(config.tracking.uri))}",
            ),
            ("train on your own pictures", "apdist train folder IMAGES"),
        ),
    )
