"""``apdist evaluate``: how well a trained model finds images of the same class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from apdist.data import storage
from apdist.figures import EVALUATION, Seen, measure
from apdist.training.run_folder.runs import Run, evaluation_name
from apdist_verbs.terminal.console import say, table
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.retrieval.metrics import RetrievalScores


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a trained model: every image of the split is a query against the rest."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with shards."""
    split: Annotated[str, shown_default("the run's evaluation split")] = ""
    """Split to measure."""


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist evaluate")
    with phase("loading"):
        from apdist_verbs.described import find_run

    run = find_run(options.run)
    after = evaluate(run, options.shards, options.split)
    own = not options.shards and not options.split
    show(run, scores_before(run) if own else None, after)
    say_next("find pictures", "index", "--run", near(run.uri))
    return 0


def evaluate(run: Run, shards: str = "", split: str = "") -> RetrievalScores:
    """Score the run's model; of its own split the scores are kept in the run's folder."""
    import torch

    from apdist.retrieval.metrics import score_labelled
    from apdist.retrieval.scores_file import write_scores
    from apdist_verbs.described import describe, shards_of, split_name, split_of, trained_model
    from apdist_verbs.start.checks import check_evaluation_split
    from apdist_verbs.terminal.devices import best_device

    model = trained_model(run)
    where = shards_of(run, shards)
    which = split or split_name(run)
    check_evaluation_split(split_of(run.config, where, which), which)
    found = describe(run.uri, model.model_id, where, which)
    with phase("ranking"):
        scores = score_labelled(
            found.descriptors.to(best_device()), torch.tensor(found.catalogue.labels)
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


def show(run: Run, before: RetrievalScores | None, after: RetrievalScores) -> None:
    """Print a table of the scores."""
    columns = ["", "before training", "after"] if before else ["", "score"]
    table(
        f"{run.name}: {after.num_queries} queries, each against the rest",
        columns,
        score_rows(before, after),
    )
    if after.num_queries_without_positive:
        say(f"{after.num_queries_without_positive} queries without a positive are left out")
