"""``apdist search QUERY ...``: the images of an index that look like pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

from apdist.data import storage
from apdist.data.storage.local import path_hint
from apdist.training.run_folder.runs import Run
from apdist_verbs.terminal.console import said_beside_output, say
from apdist_verbs.terminal.fields import Argument, positional, repeated, shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase, progress_bar

if TYPE_CHECKING:
    from apdist.retrieval.querying.open_index import OpenIndex
    from apdist.retrieval.querying.results import SearchResults

STDOUT = "-"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Find the images that look like pictures."""

    query: Annotated[tuple[str, ...], positional("QUERY")] = ()
    """Pictures to search for, in any format that Pillow reads: files, folders, addresses (s3://,
    https://), s3:// prefixes, lists (.txt with one a line, .csv with a column)."""
    key: Annotated[tuple[str, ...], repeated("none")] = ()
    """Key of an image of the index to search for; it does not find itself. Repeat it for more."""
    column: str = "path"
    """Column of a .csv list with the addresses; relative ones start from the list's folder."""
    run: Annotated[str, shown_default("that of --index, or the newest under runs/")] = ""
    """Folder of the run whose model describes the pictures."""
    index: Annotated[tuple[str, ...], repeated("`index` in the run's folder")] = ()
    """Folder of the index. Repeat it to search several together."""
    k: Annotated[int, Argument(short="-k")] = 10
    """Results of each query."""
    where: Annotated[tuple[str, ...], repeated("all")] = ()
    """Images that may be found, by a column: label_name=cat, width>=640, "split in train,val".
    Repeat it for more conditions, all of which have to hold."""
    near_duplicates: Annotated[float, shown_default("all results")] = -1.0
    """Only results with this cosine or more; 0.95 leaves what is nearly the same picture."""
    csv: Annotated[str, shown_default("none")] = ""
    """File for a row for each result; - writes it to the output, and everything else beside."""
    json: Annotated[str, shown_default("none")] = ""
    """File for a list with an object for each query; - as for --csv."""
    html: Annotated[str, shown_default("none")] = ""
    """File for a page with thumbnails of queries and results."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"--k must be at least 1, got {self.k}")
        if not self.query and not self.key:
            raise ValueError(
                "`apdist search` needs QUERY or --key KEY (`apdist search --help` lists all)"
            )
        if not -1 <= self.near_duplicates <= 1:
            raise ValueError(
                f"--near-duplicates is a cosine, at most 1, got {self.near_duplicates:g}; 0.95 "
                "leaves what is nearly the same picture"
            )
        targets = [target for target in (self.csv, self.json, self.html) if target]
        if self.html == STDOUT or len(set(targets)) < len(targets):
            raise ValueError(
                "--csv, --json and --html need different files, and one of --csv and --json may "
                f"be {STDOUT}, the output; got {', '.join(targets)}"
            )

    @property
    def has_output(self) -> bool:
        """Whether the output is for a program."""
        return STDOUT in (self.csv, self.json)


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist search")
    # Nobody may read the output to its end, as where it goes to `head`.
    ending = suppress(BrokenPipeError) if options.has_output else nullcontext()
    with ending, said_beside_output() if options.has_output else nullcontext():
        refuse_targets(options)
        with phase("listing the queries"):
            pictures = queries_of(options)
        with phase("loading"):
            from apdist.retrieval.querying.opening import run_of
            from apdist_verbs.described import find_run, trained_model

        its_run = options.run or (
            run_of(*map(storage.absolute, options.index)) if options.index else ""
        )
        run = find_run(its_run)
        trained_model(run)
        search(run, pictures, options)
        if not options.has_output:
            places = [word for place in options.index for word in ("--index", place)]
            own = [near(run.uri)] if options.run or not places else []
            say_next("search in a browser", "serve", *own, *places)
    return 0


def search(run: Run, pictures: list[str], options: Options) -> None:
    """Search, show and write the results."""
    from apdist_verbs.finding.files import CsvWriter, JsonWriter, Taker, opened_target
    from apdist_verbs.finding.sheet import Sheet
    from apdist_verbs.finding.shown import Shown

    opened = opened_index(run, options)
    places = " and ".join(options.index) or near(storage.join(run.uri, "index"))
    shown = Shown(options.k, opened.count(options.where), options.near_duplicates)
    asked = opened.entries_of(options.key).to_pylist() if options.key and options.html else []
    sheet = Sheet(partial(picture_of, asked, pictures))
    takers: list[Taker] = [shown, *([sheet] if options.html else [])]
    with ExitStack() as stack:
        for target, writer in ((options.csv, CsvWriter), (options.json, JsonWriter)):
            if target:
                takers.append(writer(stack.enter_context(opened_target(target))))
        with progress_bar("searching", len(pictures) + len(options.key)) as update:
            for results in found(opened, pictures, options):
                for taker in takers:
                    taker.add(results)
                update(shown.num_given)
        for taker in takers:
            taker.end()
        shown.refuse_none()
        if options.html:
            page = stack.enter_context(opened_target(options.html))
            page.write(sheet.page(f"Search in {places}", *shown.told()))
    if not options.has_output:
        shown.print_tables(places)
    shown.print_counts()
    for target in (options.csv, options.json, options.html):
        if target and target != STDOUT:
            say(f"written: {target}")


def found(opened: OpenIndex, pictures: list[str], options: Options) -> Iterator[SearchResults]:
    """The results of keys, then those of pictures, batch by batch."""
    wanted: dict[str, Any] = {"where": options.where, "least_score": options.near_duplicates}
    if options.key:
        yield opened.search_keys(options.key, options.k, **wanted)
    if pictures:
        parts = opened.search_parts(pictures, options.k, skip_unreadable=True, **wanted)
        with closing(parts) as results:
            for part in results:
                numbers = tuple(number + len(options.key) for number in part.numbers)
                yield dataclasses.replace(part, numbers=numbers)


def picture_of(entries: list[dict[str, Any]], pictures: list[str], number: int) -> bytes:
    """The encoded picture of a query: of the entries of keys, then of the pictures."""
    from apdist.data.given_images import encoded_of
    from apdist.retrieval.querying.entry_images import image_of

    if number < len(entries):
        return image_of(entries[number])
    return encoded_of(pictures[number - len(entries)])


def queries_of(options: Options) -> list[str]:
    """Addresses of all pictures.

    Raises:
        ValueError: there is none in one of the places, or the only one is not there.
    """
    from apdist.retrieval.querying.queries import pictures_at

    pictures = pictures_at(options.query, options.column)
    if len(pictures) == 1 and not options.key:  # not after a model is loaded
        path = storage.local_path(pictures[0])
        if path is not None and not path.exists():
            raise ValueError(
                f"the query image {path} does not exist{path_hint(path) or '; check the path'}"
            )
    return pictures


def opened_index(run: Run, options: Options) -> OpenIndex:
    """The index, or several, with the model of the run.

    Raises:
        ValueError: there is none, or they do not fit.
    """
    from apdist.retrieval.querying.opening import open_index

    own = storage.join(run.uri, "index")
    if not options.index and not storage.exists(storage.join(own, "index.json")):
        raise ValueError(
            f"no index at {own}; build one with: apdist index --run {quote(near(run.uri))}"
        )
    with phase("loading the index"):
        return open_index(options.index or [own], run=run.uri)


def refuse_targets(options: Options) -> None:
    """Raise unless the files can be written.

    Raises:
        ValueError: one cannot.
    """
    from apdist_verbs.start.checks import refuse_unwritable_file

    for name in ("csv", "json", "html"):
        target = getattr(options, name)
        if target and target != STDOUT:
            refuse_unwritable_file(f"--{name}", target, f"found.{name}")
