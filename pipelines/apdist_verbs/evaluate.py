"""``apdist evaluate``: how well a trained model finds images, by the protocol of a benchmark."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from apdist.data import storage
from apdist.figures import EVALUATION, Seen, measure
from apdist.training.run_folder.runs import Run, evaluation_name
from apdist_verbs.measure.choosing import Protocol, Wanted, choose
from apdist_verbs.start.checks import check_evaluation_split, refuse_unwritable
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.retrieval.metrics import RetrievalScores
    from apdist_verbs.measure.results import Measured


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a trained model, by the protocol that the images are made for."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with shards."""
    protocol: Protocol = "auto"
    """How it is counted (docs/protocols.md). `auto`: as the ground truth beside the shards says, or
    `query-gallery` where they have splits of these names, or `labelled`."""
    split: Annotated[str, shown_default("the run's evaluation split")] = ""
    """`labelled`: every image of this split is a query against the rest."""
    query_split: str = "query"
    """Split of the queries, of `query-gallery` and of a ground truth."""
    gallery_split: Annotated[str, shown_default("`database` or `gallery`")] = ""
    """Split that is searched."""
    ground_truth: Annotated[str, shown_default("`ground_truth.parquet` beside the shards")] = ""
    """Parquet or CSV file with the columns query, positives, junk, box."""
    distractors: str = ""
    """Folder of `apdist extract` with descriptors that are right for no query."""
    recall_at: tuple[int, ...] = (1, 5, 10)
    """The k of R@k, of `labelled` and `query-gallery`."""
    json: Annotated[str, shown_default("`figures_PROTOCOL.json` in the run's folder")] = ""
    """File for the figures."""

    def __post_init__(self) -> None:
        if not self.recall_at or min(self.recall_at) < 1:
            raise ValueError("--recall-at must be whole numbers of at least 1, as 1 10 100")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist evaluate")
    target = options.json and storage.absolute(options.json)
    if target and (path := storage.local_path(target)) is not None:
        refuse_unwritable("--json", os.path.dirname(path))  # not after hours of describing
    with phase("loading"):
        from apdist_verbs.described import find_run
        from apdist_verbs.measure.results import show, write

    run = find_run(options.run)
    measured = evaluate_by_protocol(run, options)
    show(measured)
    write(measured, target or storage.join(run.uri, f"figures_{measured.protocol}.json"))
    say_next("find pictures", "index", "--run", near(run.uri))
    return 0


def evaluate_by_protocol(run: Run, options: Options) -> Measured:
    """Measure the run's model as the options or the data say."""
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist_verbs.described import shards_of, trained_model
    from apdist_verbs.measure.divided import measure_divided
    from apdist_verbs.measure.judged import measure_judged

    model = trained_model(run)
    where = shards_of(run, options.shards)
    wanted = Wanted(**{name: getattr(options, name) for name in Wanted.__dataclass_fields__})
    with phase("reading the catalogue"):
        chosen = choose(wanted, where, read_catalogue(where).splits())
    if chosen.ground_truth is not None:
        return measure_judged(
            run,
            model,
            where,
            chosen.ground_truth,
            query_split=options.query_split,
            gallery_split=chosen.gallery_split,
            distractors=options.distractors,
        )
    if chosen.protocol == "query-gallery":
        return measure_divided(
            run,
            model,
            where,
            query_split=options.query_split,
            gallery_split=chosen.gallery_split,
            recall_at=options.recall_at,
        )
    return measure_labelled(run, options)


def measure_labelled(run: Run, options: Options) -> Measured:
    """Every image of a split is a query against the rest."""
    from apdist_verbs.described import shards_of, split_name
    from apdist_verbs.measure.divided import evaluation_figures
    from apdist_verbs.measure.results import Measured, lines_of

    after = evaluate(run, options.shards, options.split, options.recall_at)
    is_own = not options.shards and not options.split
    before = scores_before(run) if is_own else None
    return Measured(
        protocol="labelled",
        title=f"{run.name}: {after.num_queries} queries, each against the rest",
        lines=lines_of(evaluation_figures(options.recall_at), after, before),
        num_queries=after.num_queries,
        num_queries_without_positive={"all": after.num_queries_without_positive},
        facts={
            "data": shards_of(run, options.shards),
            "split": options.split or split_name(run),
        },
    )


def evaluate(
    run: Run, shards: str = "", split: str = "", recall_at: tuple[int, ...] = (1, 5, 10)
) -> RetrievalScores:
    """Score the run's model; of its own split the scores are kept in the run's folder."""
    import torch

    from apdist.retrieval.metrics import score_labelled
    from apdist.retrieval.scores_file import write_scores
    from apdist_verbs.described import describe, shards_of, split_name, split_of, trained_model
    from apdist_verbs.terminal.devices import best_device

    model = trained_model(run)
    where = shards_of(run, shards)
    which = split or split_name(run)
    check_evaluation_split(split_of(run.config, where, which), which)
    found = describe(run.uri, model.model_id, where, which)
    with phase("ranking"):
        scores = score_labelled(
            found.descriptors.to(best_device()),
            torch.tensor(found.catalogue.labels),
            recall_at=recall_at,
        )
    if not shards and not split:
        write_scores(scores, storage.join(run.uri, "evaluation.json"))
    return scores


def scores_before(run: Run) -> RetrievalScores | None:
    """What the untrained network scored, if the run measured it."""
    from apdist.retrieval.scores_file import read_scores
    from apdist_verbs.described import split_name

    uri = storage.join(run.uri, evaluation_name(split_name(run), 0))
    return read_scores(uri) if storage.exists(uri) else None


def score_rows(before: RetrievalScores | None, after: RetrievalScores) -> list[list[str]]:
    """A row for each figure that the console shows: its name, before if given, after."""
    columns = [
        measure(EVALUATION, scores, Seen.CONSOLE)
        for scores in (before, after)
        if scores is not None
    ]
    return [
        [figure.label, *(figure.number(column[figure]) for column in columns)]
        for figure in columns[-1]
    ]
