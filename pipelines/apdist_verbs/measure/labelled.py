"""The labelled protocol: every image of a split is a query against the rest of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from apdist.data import storage
from apdist.figures import EVALUATION, Seen, measure
from apdist.training.run_folder.runs import Run, evaluation_name
from apdist_verbs.describe_options import PLAIN, DescribeOptions
from apdist_verbs.measure.options import Options
from apdist_verbs.start.checks import check_evaluation_split
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.retrieval.metrics import RetrievalScores
    from apdist_verbs.measure.results import Measured
    from apdist_verbs.measure.source import Source

UNKEPT = "`apdist evaluate --json FILE` writes them elsewhere"


def source_of(run: Run, options: Options) -> Source:
    """Where the descriptors come from.

    Raises:
        ValueError: the run has no model, or descriptors are not of these images.
    """
    from apdist_verbs.described import shards_of, trained_model
    from apdist_verbs.measure.source import Source, describing_of

    where, describing = shards_of(run, options.shards), options.describing
    tables = options.descriptors and storage.absolute(options.descriptors)
    if tables:
        describing = describing_of(tables, describing, where)
    return Source(
        run=run,
        model=trained_model(run, describing),
        shards=where,
        describing=describing,
        tables=tables,
        expansion=options.expansion,
    )


def measure_labelled(source: Source, options: Options) -> Measured:
    """Every image of a split is a query against the rest."""
    from apdist_verbs.described import split_name
    from apdist_verbs.measure.query_gallery import evaluation_figures, notes_on_depth
    from apdist_verbs.measure.results import Measured, lines_of
    from apdist_verbs.measure.source import notes_on_cuts

    run, figures = source.run, evaluation_figures(options.recall_at)
    after = score_split(source, options)
    before = scores_before(run) if is_own(options, source.describing) else None
    lines, notes = lines_of(figures, after, before), notes_on_cuts(source)
    for size, scores in scores_of_first_numbers(source, options).items():
        lines += [
            replace(line, key=f"{line.key}_first_{size}", label=f"{line.label}, first {size}")
            for line in lines_of(figures, scores)
            if line.key in ("map", "recall_at_1")
        ]
        notes = ["first N: of the first N numbers of each descriptor alone, as --dim N keeps them"]
    return Measured(
        protocol="labelled",
        title=f"{run.name}: {after.num_queries} queries, each against the rest",
        lines=lines,
        num_queries=after.num_queries,
        num_queries_without_positive={"all": after.num_queries_without_positive},
        notes=notes + notes_on_depth(options.recall_at, after.num_queries - 1),
        facts={**source.facts(), "split": options.split or split_name(run)},
    )


def scores_of_first_numbers(source: Source, options: Options) -> dict[int, RetrievalScores]:
    """Scores of what the run was trained to be cut to, by numbers that are kept; often none."""
    import torch

    from apdist.loss.matryoshka import first_numbers
    from apdist.retrieval.metrics import score_labelled
    from apdist_verbs.described import split_name

    sizes = source.run.config.loss.matryoshka
    if not sizes or source.describing.dim or source.describing.whiten:
        return {}
    found = source.split(options.split or split_name(source.run))
    labels = torch.tensor(found.catalogue.labels)
    with phase("ranking"):
        return {
            size: score_labelled(
                first_numbers(found.descriptors, size), labels, recall_at=options.recall_at
            )
            for size in sizes
        }


def is_own(options: Options, describing: DescribeOptions) -> bool:
    """Whether it is the run's own split, and ``describing`` is as the run measures."""
    return not options.shards and not options.split and describing == PLAIN


def score_own_split(run: Run) -> RetrievalScores:
    """Score the run's model on its own split; the scores are kept in the run's folder."""
    return score_split(source_of(run, Options()), Options())


def score_split(source: Source, options: Options) -> RetrievalScores:
    """Score a split, each image against the rest; of the run's own the scores are kept."""
    import torch

    from apdist.retrieval.metrics import score_labelled
    from apdist.retrieval.scores_file import write_scores
    from apdist_verbs.described import split_name, split_of, warn_of_unkept

    run, which = source.run, options.split or split_name(source.run)
    check_evaluation_split(split_of(run.config, source.shards, which), which)
    found = source.split(which)
    with phase("ranking"):
        scores = score_labelled(
            found.descriptors, torch.tensor(found.catalogue.labels), recall_at=options.recall_at
        )
    if is_own(options, source.describing) and not source.tables:
        try:
            write_scores(scores, storage.join(run.uri, "evaluation.json"))
        except OSError:
            warn_of_unkept(run.uri, UNKEPT)
    return scores


def scores_before(run: Run) -> RetrievalScores | None:
    """What the untrained network scored, if the run measured it."""
    from apdist.retrieval.scores_file import read_scores
    from apdist_verbs.described import split_name

    uri = storage.join(run.uri, evaluation_name(split_name(run), 0))
    return read_scores(uri) if storage.exists(uri) else None


def comparison_rows(before: RetrievalScores | None, after: RetrievalScores) -> list[list[str]]:
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
