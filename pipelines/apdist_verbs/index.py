"""``apdist index``: a search index over the images of a split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from apdist.data import storage
from apdist.training.run_folder.runs import Run
from apdist_verbs.making import PLAIN, SHARED, Making, noted
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    import pyarrow as pa

    from apdist_verbs.described import Described

Kind = Literal["auto", "exact", "flat", "ivf", "hnsw", "ivf_pq"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Describe the images of a split and build an index to search them."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run whose model describes."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with the shards to index."""
    split: Annotated[str, shown_default("the run's evaluation split")] = ""
    """Split to index."""
    kind: Kind = "auto"
    """exact needs no faiss; flat is exact too; ivf, hnsw and ivf_pq trade recall for speed."""
    out: Annotated[str, shown_default("`index` in the run's folder")] = ""
    """Folder for the index, on this machine."""
    making: Annotated[Making, SHARED] = PLAIN


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist index")
    with phase("loading"):
        from apdist_verbs.described import find_run, split_name

    run = find_run(options.run)
    out = make_index(run, options)
    own = ["--index", near(out)] if options.out else []
    if not options.split:
        say(f"it holds the split {split_name(run)!r}; for another one give --split and --out")
    say_next("search", "search", "PICTURE.jpg", "--run", near(run.uri), *own)
    return 0


def make_index(run: Run, options: Options) -> str:
    """Build and save an index; returns its folder."""
    from apdist.retrieval.faiss_index import refuse_kind
    from apdist.retrieval.index import fill
    from apdist.retrieval.stored.folder import claimed
    from apdist_verbs.described import describe, shards_of, split_name, split_of, trained_model

    out = storage.absolute(options.out or storage.join(run.uri, "index"))
    model = trained_model(run, options.making)
    shards = shards_of(run, options.shards)
    split = options.split or split_name(run)
    refuse_kind(options.kind, len(split_of(run.config, shards, split)))
    with claimed(out) as generation:
        found = describe(run.uri, model.model_id, shards, split, options.making)
        with phase("building the index"):
            settings = fill(
                generation,
                [(found.descriptors, entries(found))],
                kind=options.kind,
                model_id=model.model_id,
                about={"making": noted(options.making)},
            )
    say(describe_index(settings, out))
    return out


def entries(found: Described) -> pa.Table:
    """What a result tells: where the image came from and where its bytes lie."""
    import pyarrow as pa

    table = found.catalogue.table
    uris = [storage.join(found.catalogue.root, name) for name in table["shard"].to_pylist()]
    columns = ["key", "source", "label", "label_name", "offset", "size"]
    return table.select(columns).append_column("shard", pa.array(uris).dictionary_encode())


def describe_index(settings: dict[str, Any], out: str) -> str:
    """One line about a new index."""
    return (
        f"{out}: {settings['kind']} index of {settings['count']} images, {settings['dim']}-d, "
        f"recall@10 against exact search {settings['recall_at_10']:.3f}"
    )
