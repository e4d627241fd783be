"""``apdist evaluate``: how well a trained model finds images, by the protocol of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from apdist.data import storage
from apdist.figures import EVALUATION, Seen, measure
from apdist.retrieval.protocols.choosing import Protocol, ProtocolOptions, choose_protocol
from apdist.training.run_folder.runs import Run, evaluation_name
from apdist_verbs.describe_options import (
    NOT_AVERAGED,
    PLAIN,
    SHARED,
    DescribeOptions,
    Expansion,
    options_to_words,
)
from apdist_verbs.start.checks import check_evaluation_split, refuse_unwritable_file
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.retrieval.metrics import RetrievalScores
    from apdist_verbs.measure.results import Measured
    from apdist_verbs.measure.source import Source


UNKEPT = "`apdist evaluate --json FILE` writes them elsewhere"


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
    descriptors: Annotated[str, shown_default("none: images are described")] = ""
    """Folder of `apdist extract` with the descriptors of the shards. Queries that are cut out of
    images are described nevertheless, in the same way."""
    json: Annotated[str, shown_default("`figures_PROTOCOL.json` in the run's folder")] = ""
    """File for the figures."""
    describing: Annotated[DescribeOptions, SHARED] = PLAIN
    expansion: Annotated[Expansion, SHARED] = NOT_AVERAGED

    def __post_init__(self) -> None:
        typed = " ".join(map(str, self.recall_at))
        if not self.recall_at or min(self.recall_at) < 1:
            raise ValueError(
                f"--recall-at must be whole numbers of at least 1, as 1 10 100, got {typed!r}"
            )
        if len(set(self.recall_at)) < len(self.recall_at):
            raise ValueError(f"--recall-at names a number twice: {typed}; give each once")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist evaluate")
    target = options.json and storage.absolute(options.json)
    if target:  # not after hours of describing
        refuse_unwritable_file("--json", options.json, "figures.json")
    with phase("loading"):
        from apdist_verbs.described import find_run, warn_of_unkept
        from apdist_verbs.measure.results import show, write

    run = find_run(options.run)
    measured = evaluate_by_protocol(run, options)
    show(measured)
    try:
        write(measured, target or storage.join(run.uri, f"figures_{measured.protocol}.json"))
    except OSError:
        if target:
            raise
        warn_of_unkept(run.uri, UNKEPT)
    shards = ["--shards", near(storage.absolute(options.shards))] if options.shards else []
    if storage.list_files(storage.join(run.uri, "index")):  # it is not built twice
        say_next("find pictures", "search", "PICTURE.jpg", "--run", near(run.uri))
    else:
        describing = options_to_words(options.describing)  # as it was measured
        say_next("find pictures", "index", "--run", near(run.uri), *shards, *describing)
    return 0


def evaluate_by_protocol(run: Run, options: Options) -> Measured:
    """Measure the run's model as the options or the data say."""
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist_verbs.described import shards_of
    from apdist_verbs.measure.judged import measure_judged
    from apdist_verbs.measure.query_gallery import measure_query_gallery

    where = shards_of(run, options.shards)
    wanted = ProtocolOptions(
        **{name: getattr(options, name) for name in ProtocolOptions.__dataclass_fields__}
    )
    with phase("reading the catalogue"):
        chosen = choose_protocol(wanted, where, read_catalogue(where).splits())
    source = source_of(run, options)
    if chosen.ground_truth is not None:
        return measure_judged(
            source,
            chosen.ground_truth,
            query_split=options.query_split,
            gallery_split=chosen.gallery_split,
            distractors=options.distractors,
        )
    if chosen.protocol == "query-gallery":
        return measure_query_gallery(
            source,
            query_split=options.query_split,
            gallery_split=chosen.gallery_split,
            recall_at=options.recall_at,
        )
    if options.expansion.is_any:
        raise ValueError(
            "--query-expansion and --database-augmentation need queries apart from the images that "
            "are searched (--protocol query-gallery, or a ground truth); in `labelled` every image "
            "is both"
        )
    return measure_labelled(source, options)


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

    run = source.run
    after = score_split(source, options)
    before = scores_before(run) if is_own(options, source.describing) else None
    return Measured(
        protocol="labelled",
        title=f"{run.name}: {after.num_queries} queries, each against the rest",
        lines=lines_of(evaluation_figures(options.recall_at), after, before),
        num_queries=after.num_queries,
        num_queries_without_positive={"all": after.num_queries_without_positive},
        notes=notes_on_depth(options.recall_at, after.num_queries - 1),
        facts={**source.facts(), "split": options.split or split_name(run)},
    )


def is_own(options: Options, describing: DescribeOptions) -> bool:
    """Whether it is the run's own split, and ``describing`` is as the run measures."""
    return not options.shards and not options.split and describing == PLAIN


def evaluate(run: Run) -> RetrievalScores:
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
