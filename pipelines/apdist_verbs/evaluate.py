"""``apdist evaluate``: how well a trained model finds images, by the protocol of a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apdist.data import storage
from apdist.retrieval.protocols.choosing import ProtocolOptions, choose_protocol
from apdist.training.run_folder.runs import Run
from apdist_verbs.describe_options import options_to_words
from apdist_verbs.measure.options import Options
from apdist_verbs.start.checks import refuse_unwritable_file
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist_verbs.measure.results import Measured


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist evaluate")
    target = options.json and storage.absolute(options.json)
    if target:  # not after hours of describing
        refuse_unwritable_file("--json", options.json, "figures.json")
    with phase("loading"):
        from apdist_verbs.described import find_run, warn_of_unkept
        from apdist_verbs.measure.labelled import UNKEPT
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
    from apdist_verbs.measure.labelled import measure_labelled, source_of
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
