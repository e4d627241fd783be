"""``apdist prepare check``: what has changed in the shards since they were indexed."""

import os
from dataclasses import dataclass
from typing import Annotated

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.preparing.checking import check_shards
from apdist_verbs.terminal.bounds import at_least
from apdist_verbs.terminal.console import counted, say, table, warn
from apdist_verbs.terminal.fields import positional
from apdist_verbs.terminal.progress import phase, progress_bar

MOST_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class PrepareCheck:
    """Compare shards with their catalogue; exit code 1 where something differs."""

    uri: Annotated[str, positional("URI")]
    """Folder or s3:// prefix with the shards' catalogue, index.parquet."""
    deep: bool = False
    """Read every image and compare its checksum, not only sizes and ETags of the shards."""
    threads: int = min(16, 2 * (os.cpu_count() or 1))
    """Shards looked at together."""

    def __post_init__(self) -> None:
        at_least(1, threads=self.threads)


def prepare_check(options: PrepareCheck) -> int:
    """Check, print a table of what differs; 0 where nothing does."""
    with phase("reading the catalogue"):
        catalogue = read_catalogue(options.uri)
    title = "reading images" if options.deep else "looking at shards"
    with progress_bar(title, len(catalogue)) as update:
        found = check_shards(
            catalogue,
            deep=options.deep,
            num_threads=options.threads,
            progress=update,
        )
    warn_of_others(catalogue)
    what = "every image" if options.deep else "size and ETag"
    if not found:
        say(f"{options.uri}: {counted(len(catalogue.shards), 'shard')} as noted ({what} compared)")
        return 0
    rows = [[d.shard, d.key, str(d.offset) if d.offset >= 0 else "", d.what] for d in found]
    table("what differs from the catalogue", ["shard", "key", "at byte", "what"], rows[:MOST_SHOWN])
    shards = {d.shard for d in found}
    differences, total = counted(len(found), "difference"), counted(len(catalogue.shards), "shard")
    say(f"{differences} in {len(shards)} of {total} ({what} compared)")
    say(
        "bring the shards back, or prepare them again; shards of others are indexed again by the "
        "`apdist prepare index ...` that they were indexed by, with --overwrite"
    )
    return 1


def warn_of_others(catalogue: Catalogue) -> None:
    """Name shards that lie beside the catalogue and are not in it."""
    if storage.is_read_only(catalogue.root) or any("/" in name for name in catalogue.shards):
        return  # nothing can be listed there, or the shards lie elsewhere
    beside = sorted(set(storage.list_files(catalogue.root, ".tar")) - set(catalogue.shards))
    if beside:
        warn(f"{counted(len(beside), 'shard')} not in the catalogue, the first {beside[0]}")
