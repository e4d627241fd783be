"""``apdist prepare``: shards and their catalogue; each verb below it has its part of the work."""

import importlib
import sys
from typing import Any

from apdist.config import suggestion
from apdist.data.preparing.published.description import PublishedSet
from apdist.data.preparing.published.sets import SETS
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.overview import two_columns

VERBS = {
    "folder": ("folder", "PrepareFolder", "your own pictures, IMAGES/<class>/<image>"),
    "csv": ("table", "PrepareCsv", "pictures that a .csv or .tsv file lists"),
    "parquet": ("table", "PrepareParquet", "pictures that a .parquet file lists or holds"),
    "glyphs": ("glyphs", "PrepareGlyphs", "drawn characters, no network needed"),
    "index": ("index", "PrepareIndex", "WebDataset shards of others, where they lie"),
    "check": ("check", "PrepareCheck", "compare shards with their catalogue"),
    "stats": ("stats", "PrepareStats", "classes, images per class, bytes, splits"),
}
"""File, options and help of each; the function that runs is named prepare_<verb>."""


def main(argv: list[str]) -> int:
    """Parse and run."""
    if argv and argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    options = read_options(argv)
    if which := SETS.get(argv[0]):
        from apdist_verbs.prepare.published import prepare_published

        code = prepare_published(which, options)
    else:
        module = importlib.import_module(f"apdist_verbs.prepare.{VERBS[argv[0]][0]}")
        code = getattr(module, f"prepare_{argv[0]}")(options)
    if code == 0 and which and "train" not in which.counts:
        verb = ("evaluate",) if which.num_queries else ("extract", "--out", "distractors")
        say_next("measure a run on them", *verb, "--shards", near(options.out))
    elif code == 0 and argv[0] != "stats":  # which says it itself, of the batch that it counts in
        from apdist_verbs.prepare.trainable import say_training

        shards = getattr(options, "out", "") or folder_of(options.uri)
        say_training(shards, "glyphs" if argv[0] == "glyphs" else "folder")
    return code


def read_options(argv: list[str]) -> Any:
    """The options of the verb ``argv[0]``.

    Raises:
        ValueError: there is no such verb, or an option is wrong or missing.
    """
    if not argv or argv[0] not in {*VERBS, *SETS}:
        hint = suggestion(argv[0], [*VERBS, *SETS]) if argv else ""
        raise ValueError(
            f"expected `apdist prepare {'|'.join(VERBS)}` or a published data set, "
            f"got {repr(argv[0]) if argv else 'none of them'}{hint} "
            "(`apdist prepare --help` tells more)"
        )
    if which := SETS.get(argv[0]):
        from apdist_verbs.prepare.published import PreparePublished

        prog = f"apdist prepare {which.name}"
        return parse(PreparePublished, argv[1:], prog, description=description(which))
    file, kind, _ = VERBS[argv[0]]
    module = importlib.import_module(f"apdist_verbs.prepare.{file}")
    return parse(getattr(module, kind), argv[1:], f"apdist prepare {argv[0]}")


def description(which: PublishedSet) -> str:
    """What the help says of a data set."""
    counts = [
        f"{split} {count.images:,} images"
        + (f" of {count.classes:,} classes" if count.classes else "")
        for split, count in which.counts.items()
    ]
    return f"Write shards of {which.title}.\n\nFrom {which.address}\nExpected: {'; '.join(counts)}."


def folder_of(uri: str) -> str:
    """The folder with the catalogue of ``uri``, which may name shards themselves."""
    from apdist_verbs.prepare.index import is_one_shard

    return (uri.rpartition("/")[0] or ".") if is_one_shard(uri) else uri


def usage() -> str:
    """Help before the options."""
    return "\n".join(
        [
            "usage: apdist prepare VERB [OPTIONS]",
            "",
            two_columns({verb: text for verb, (_, _, text) in VERBS.items()}, 17),
            "",
            "published data sets, unpacked: apdist prepare NAME ROOT --out OUT",
            "",
            two_columns({name: which.title for name, which in SETS.items()}, 17),
            "",
            "apdist prepare VERB --help lists every option",
            "",
        ]
    )
