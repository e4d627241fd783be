"""Build an index: what `apdist index` does by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from apdist.data import storage
from apdist.training.run_folder.runs import Run
from apdist_verbs.describe_options import PLAIN, SHARED, DescribeOptions, options_to_json
from apdist_verbs.index.sources import OF_THE_RUN, Images, find_source, followed_by
from apdist_verbs.terminal.console import counted, say
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.progress import phase

Kind = Literal["auto", "exact", "flat", "ivf", "hnsw", "ivf_pq"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Describe images and build an index to search them."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run whose model describes."""
    kind: Kind = "auto"
    """exact needs no faiss; flat is exact too; ivf, hnsw and ivf_pq trade recall for speed."""
    out: Annotated[str, shown_default("`index` in the run's folder")] = ""
    """Folder or s3:// prefix for the index."""
    overwrite: bool = False
    """Take the place of an index that lies there; who is reading that one goes on with it."""
    source: Annotated[Images, SHARED] = OF_THE_RUN
    describing: Annotated[DescribeOptions, SHARED] = PLAIN


def build(options: Options) -> int:
    """Build an index and say how to search it."""
    with phase("loading"):
        from apdist_verbs.described import find_run, split_name

    is_alone = bool(options.source.table and options.out and not options.run)
    run = None if is_alone else find_run(options.run)
    out = make_index(run, options)
    source = options.source
    if run is not None and not (source.split or source.images or source.table):
        say(f"it holds the split {split_name(run)!r}; all images: --split all --overwrite")
    say_search(run, out if options.out else "")
    return 0


def say_search(run: Run | None, index: str) -> None:
    """Say how to search the index at ``index``; empty: that of the run."""
    from apdist.retrieval.querying.opening import run_of

    of_run = ["--run", near(run.uri)] if run is not None else []
    if run is None:
        try:
            run_of(index)
        except ValueError:
            of_run = ["--run", "RUN"]  # of tables: nothing but their model is known
    own = ["--index", near(index)] if index else []
    say_next("search", "search", "PICTURE.jpg", *of_run, *own)


def make_index(run: Run | None, options: Options) -> str:
    """Build and save an index; returns its folder."""
    from apdist.retrieval.approximate.building import refuse_kind
    from apdist.retrieval.index import fill
    from apdist.retrieval.stored.folder import claimed

    out = storage.absolute(options.out or storage.join(run.uri if run else "", "index"))
    source = find_source(options.source, run, options.describing, out)
    refuse_kind(options.kind, len(source))
    with (
        claimed(out, "overwrite" if options.overwrite else "new") as generation,
        followed_by(source.all_parts(), "building the index") as parts,
    ):
        settings = fill(
            generation,
            parts,
            kind=options.kind,
            model_id=source.model_id,
            about={"describing": options_to_json(source.describing), "run": run.uri if run else ""},
        )
    say(f"{out}: {described_index(settings)}")
    return out


def described_index(settings: dict[str, Any]) -> str:
    """An index in a few words."""
    recall, images = settings["recall_at_10"], counted(settings["count"], "image")
    words = f"{settings['kind']} index of {images}, {settings['dim']}-d"
    return words if recall is None else f"{words}, recall@10 against exact search {recall:.3f}"
