"""``apdist report``: report.html of a run, a page that compares several, sweep.html of a sweep."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from apdist.data import storage
from apdist.training.run_folder.runs import Run
from apdist.training.sweeps.state import SWEEP_NAME
from apdist_verbs.start.checks import refuse_unwritable_file, refuse_unwritable_run
from apdist_verbs.terminal.bounds import at_least
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.report.gallery import RankedQuery
    from apdist_verbs.pages.content import Images

MOST_RUNS = 6
"""Whose curves can be told apart."""
MOST_ON_MAP = 2000


OTHER_PAGE = "report-other-images.html"
"""Beside the run's own page: what it shows are not the images that the run was measured on."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Write a page about a run, one that compares several, or that of a sweep."""

    runs: Annotated[tuple[str, ...], positional("RUN")] = ()
    """Folders of runs. Several are compared; one is the same as --run, and may be a sweep."""
    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with shards to measure it on."""
    split: Annotated[str, shown_default("the run's evaluation split")] = ""
    """Split to measure it on."""
    out: Annotated[
        str,
        shown_default(
            "report.html in the run's folder, report-other-images.html with --shards or --split; "
            "of several runs, comparison.html here"
        ),
    ] = ""
    """File for the page."""
    queries: int = 8
    """Queries under each heading: worst, median, best; of several runs, best in each."""
    results: int = 10
    """Results shown for each query."""
    map_images: int = 1000
    """Images on the map of the descriptors, at most 2000; 0 leaves it out."""
    max_mb: float = 3.0
    """Megabytes that the page may take: its pictures get smaller, then fewer."""
    gallery: Annotated[Path, shown_default("none")] = Path()
    """A .png file for a picture of ranked queries."""

    def __post_init__(self) -> None:
        at_least(1, queries=self.queries, results=self.results)
        if not 0 <= self.map_images <= MOST_ON_MAP:
            raise ValueError(f"--map-images must be 0 to {MOST_ON_MAP}, got {self.map_images}")
        if not 0 < self.max_mb < 1000:  # nor NaN
            raise ValueError(f"--max-mb must be more than 0 and below 1000, got {self.max_mb:g}")
        if self.gallery != Path() and self.gallery.suffix.lower() != ".png":
            raise ValueError(f"--gallery {self.gallery} must end in .png")
        if not self.gallery.parent.is_dir():
            raise ValueError(f"--gallery {self.gallery}: there is no folder {self.gallery.parent}")
        self._check_runs()

    def _check_runs(self) -> None:
        if self.runs and self.run:
            raise ValueError(f"name runs either as RUN or with --run, not both: --run {self.run}")
        if len(self.runs) > MOST_RUNS:
            raise ValueError(f"{len(self.runs)} runs; a page compares at most {MOST_RUNS}")
        where = [storage.absolute(run).rstrip("/") for run in self.runs]
        if twice := next((run for run in where if where.count(run) > 1), ""):
            raise ValueError(f"{twice} is named twice; name runs that differ")
        if len(self.runs) > 1 and self.gallery != Path():
            raise ValueError("--gallery is a picture of one run; leave it out, or name one run")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist report")
    if options.out:
        _refuse_place(options.out)
    first = options.run or "".join(options.runs[:1])
    if len(options.runs) < 2 and first and storage.exists(storage.join(first, SWEEP_NAME)):
        say(f"report: {make_sweep_page(storage.absolute(first), options)}")
        return 0
    with phase("loading"):
        from apdist_verbs.described import find_run

    runs = [find_run(uri) for uri in options.runs or (options.run,)]
    if not options.out:
        where = "." if len(runs) > 1 else runs[0].uri
        refuse_unwritable_run("the page goes to", where, "name a file elsewhere: --out FILE")
    if len(runs) > 1:
        say(f"comparison: {compare(runs, options)}")
        return 0
    say(f"report: {make_report(runs[0], options)}")
    say_next("search with a picture", "search", "PICTURE.jpg", "--run", near(runs[0].uri))
    return 0


def _refuse_place(out: str) -> None:
    """Refuse a place for the page before anything is measured.

    Raises:
        ValueError: it is a folder, or nothing can be written there.
    """
    refuse_unwritable_file("--out", out, "report.html")


def make_report(run: Run, options: Options) -> str:
    """Write the page of a run, and beside its curves in MLflow; returns its place."""
    from apdist.report.report import write_gallery_png, write_report
    from apdist.training.tracking.following import log_report
    from apdist_verbs.pages.content import compose, measure_run

    images = _images(options)
    measured = measure_run(run, images)
    with phase("drawing the report"):
        report = compose(measured, images, _max_bytes(options))
        if options.gallery != Path():
            write_gallery_png(report.gallery, options.gallery)
        is_own = not (options.shards or options.split or options.out)
        name = "report.html" if is_own else OTHER_PAGE
        place = storage.absolute(options.out or storage.join(run.uri, name))
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder, "report.html")
            notes = write_report(report, page)
            storage.write_bytes(place, page.read_bytes())
            if is_own:
                picture = Path(folder, "gallery.png")
                write_gallery_png(few_of(report.gallery), picture)
                log_report(run, page, picture)
    _say_notes(notes, options)
    return place


def make_sweep_page(uri: str, options: Options) -> str:
    """Write the page of a sweep; returns its place.

    Raises:
        ValueError: an option measures or draws images, of which the page has none.
    """
    if options.shards or options.split or options.gallery != Path():
        raise ValueError(
            f"{uri} is a sweep, whose page has no images; leave out --shards, --split and "
            "--gallery, or name a trial: a folder in it"
        )
    from apdist.report.sweep_page import sweep_page
    from apdist_verbs.sweeping.begun import PAGE
    from apdist_verbs.sweeping.showing import read_sweep

    with phase("drawing the page of the sweep"):
        place = storage.absolute(options.out or storage.join(uri, PAGE))
        storage.write_bytes(place, sweep_page(read_sweep(uri)).encode())
    return place


def few_of(gallery: tuple[RankedQuery, ...]) -> tuple[RankedQuery, ...]:
    """One query under each heading with its first results, for a small picture."""
    by_group = {query.group: query for query in reversed(gallery)}
    firsts = [by_group[group] for group in dict.fromkeys(query.group for query in gallery)]
    return tuple(dataclasses.replace(query, results=query.results[:5]) for query in firsts)


def compare(runs: list[Run], options: Options) -> str:
    """Write a page that compares runs; returns its place."""
    from apdist.report.comparison import render_comparison
    from apdist_verbs.pages.comparing import compose_comparison
    from apdist_verbs.pages.content import measure_run

    images = _images(options)
    measured = [measure_run(run, images) for run in runs]
    with phase("drawing the comparison"):
        comparison = compose_comparison(measured, images, _max_bytes(options))
        page, notes = render_comparison(comparison)
        place = storage.absolute(options.out or "comparison.html")
        storage.write_bytes(place, page.encode())
    _say_notes(notes, options)
    return place


def _images(options: Options) -> Images:
    from apdist_verbs.pages.content import Images

    return Images(
        shards=options.shards,
        split=options.split,
        queries=options.queries,
        results=options.results,
        on_map=options.map_images,
    )


def _max_bytes(options: Options) -> int:
    return int(options.max_mb * 1e6)


def _say_notes(notes: tuple[str, ...], options: Options) -> None:
    for note in notes:
        say(f"to stay in {options.max_mb:g} MB (--max-mb), {note}")
