"""Change an index, and look at it: `apdist index add`, `update`, `remove`, `check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from apdist.config import suggestion
from apdist.data import storage
from apdist.training.run_folder.runs import Run
from apdist_verbs.describe_options import (
    PLAIN,
    SHARED,
    DescribeOptions,
    options_from_json,
    options_to_json,
    options_to_words,
)
from apdist_verbs.index.build import described_index, say_search
from apdist_verbs.index.sources import OF_THE_RUN, Images, Source, find_source, followed_by
from apdist_verbs.terminal.console import counted, say, table, warn
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.retrieval.search_index import SearchIndex
    from apdist.retrieval.stored.changing import Changed

_MOST_COMPARED = 100_000
"""Keys that a mistyped one is compared with."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Which index."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run whose model describes; the index has to be of the same model."""
    index: Annotated[str, shown_default("`index` in the run's folder")] = ""
    """Folder or s3:// prefix of the index."""


@dataclass(frozen=True, kw_only=True)
class AddTo(Place):
    """Add images to an index, described as those that it holds; a key that is there is refused."""

    only_new: bool = False
    """Pass over images whose keys are there: what has come into a folder since."""
    source: Annotated[Images, SHARED] = OF_THE_RUN


@dataclass(frozen=True, kw_only=True)
class Update(Place):
    """Describe images anew: those whose keys are in the index are replaced, others are added."""

    source: Annotated[Images, SHARED] = OF_THE_RUN


@dataclass(frozen=True, kw_only=True)
class Remove(Place):
    """Remove images from an index: by key, or all that conditions hold of."""

    key: Annotated[tuple[str, ...], positional("KEY")] = ()
    """Keys of images; those that are not there are counted and said."""
    keys: Annotated[Path, shown_default("none")] = Path()
    """Text file with a key on each line."""
    where: tuple[str, ...] = ()
    """Conditions that all hold: label_name=cat 'width<200' 'split in train,val' 'label!=3'."""

    def __post_init__(self) -> None:
        if not self.key and not self.where and self.keys == Path():
            raise ValueError("nothing to remove: give KEY ..., --keys FILE, or --where CONDITION")


@dataclass(frozen=True, kw_only=True)
class Check(Place):
    """Tell what an index holds, and compare its files with their checksums."""


def index_add(options: AddTo) -> int:
    """Add images, after a look at the keys that are there."""
    from apdist.retrieval.stored.changing import NothingError, add_to_index

    run, folder, index, source = _found(options)
    is_there = _are_there(source, index)
    if is_there.any() and not options.only_new:
        first = source.keys.filter(is_there)[0].as_py()
        raise ValueError(
            f"{counted(int(is_there.sum()), 'key is', 'keys are')} in {folder} already, the first "
            f"{first!r}; describe these images anew with `apdist index update`, or pass them over "
            "with --only-new"
        )
    if is_there.all():
        say(f"{folder}: nothing is new, all {len(source)} images are there")
        return 0
    try:
        with followed_by(source.parts(~is_there), "adding") as parts:
            changed = add_to_index(folder, parts, model_id=source.model_id)
    except NothingError:
        if not options.only_new:
            raise
        there = counted(int(is_there.sum()), "image is", "images are")
        say(f"{folder}: nothing is new that can be read, {there} there")
        return 0
    _tell(folder, changed)
    say_search(run, storage.absolute(options.index) if options.index else "")
    return 0


def index_update(options: Update) -> int:
    """Replace images, and add the others."""
    from apdist.retrieval.stored.changing import update_index

    run, folder, _, source = _found(options)
    with followed_by(source.all_parts(), "updating") as parts:
        changed = update_index(folder, parts, model_id=source.model_id)
    _tell(folder, changed)
    say_search(run, storage.absolute(options.index) if options.index else "")
    return 0


def index_remove(options: Remove) -> int:
    """Remove images."""
    from apdist.retrieval.filters import parse_filter
    from apdist.retrieval.stored.changing import remove_from_index

    _, folder = _place(options)
    keys = [*options.key, *_lines(options.keys)]
    where = parse_filter(options.where) if options.where else None
    with phase("removing"):
        changed = remove_from_index(folder, keys, where=where)
    if not changed.num_removed:
        raise ValueError(f"no image of {folder} {_not_there(folder, keys, where)}")
    if changed.missing:
        many = len(changed.missing)
        first = f"{counted(many, 'key is', 'keys are')} not there, the first {changed.missing[0]!r}"
        warn(first)
    _tell(folder, changed)
    return 0


def index_check(options: Check) -> int:
    """Read everything once, and show it."""
    from apdist.retrieval.stored.reading import read_index

    _, folder = _place(options)
    with phase("reading the index"):
        index = read_index(folder, check_all=True)
    settings = {name: value for name, value in index.settings.items() if name != "describing"}
    settings |= {"made": _words(index.settings.get("describing")) or "as the run measures"}
    columns = [f"{field.name} ({_kind(field.type)})" for field in index.entries.schema]
    rows = [[name, str(value)] for name, value in settings.items()]
    table(
        f"{folder}: as it was written", ["what", "value"], [*rows, ["columns", ", ".join(columns)]]
    )
    return 0


def _place(options: Place) -> tuple[Run | None, str]:
    """The run, where it is needed, and the index's address."""
    from apdist_verbs.described import find_run

    if options.index and not options.run:
        return None, storage.absolute(options.index)
    run = find_run(options.run)
    return run, storage.absolute(options.index or storage.join(run.uri, "index"))


def _found(options: AddTo | Update) -> tuple[Run | None, str, SearchIndex, Source]:
    """Run, index and what is to go into it, described as what the index holds.

    Raises:
        ValueError: there is no index, or it is of another model.
    """
    with phase("loading"):
        from apdist.retrieval.index import load_index
        from apdist_verbs.described import find_run

    run, folder = _place(options)
    if run is None and not options.source.table:
        run = find_run(options.run)
    with phase("opening the index"):
        index = load_index(folder, model_id=None)
    describing = options_from_json(index.settings.get("describing", options_to_json(PLAIN)))
    source = find_source(options.source, run, PLAIN if options.source.table else describing, folder)
    if source.model_id != index.settings["model_id"]:
        if source.describing != describing and describing != PLAIN:
            raise ValueError(
                f"the images of {folder} were described with {_typed(describing)}, "
                f"{source.what} with {_typed(source.describing)}; extract them in that way"
            )
        raise ValueError(
            f"{folder} is of model {index.settings['model_id']}, {source.what} of model "
            f"{source.model_id}; give the run that it was built with: --run RUN"
        )
    return run, folder, index, source


def _typed(describing: DescribeOptions) -> str:
    return " ".join(options_to_words(describing)) or "no option"


def _are_there(source: Source, index: SearchIndex) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(n,) bool: which images of the source the index has."""
    import pyarrow as pa
    import pyarrow.compute as pc

    from apdist.retrieval.stored.writing import KEY

    if KEY not in index.entries.schema.names:
        return np.zeros(len(source), dtype=bool)  # refused where it is written
    known = index.entries[KEY].cast(pa.string()).combine_chunks()
    return np.asarray(pc.is_in(source.keys, value_set=known).to_numpy(), dtype=bool)


def _lines(path: Path) -> list[str]:
    """The keys in a file."""
    from apdist.data.storage.local import path_hint
    from apdist.data.text import decoded

    if path == Path():
        return []
    try:
        text = decoded(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(
            f"--keys {path} does not exist{path_hint(path) or '; check it'}"
        ) from error
    except (UnicodeDecodeError, OSError) as error:
        raise ValueError(f"--keys {path} is no text file in UTF-8 that can be read") from error
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    if not keys:
        raise ValueError(f"--keys {path} holds no key; expected one on each line")
    return keys


def _not_there(folder: str, keys: list[str], where: object) -> str:
    """Why nothing was removed."""
    from apdist.retrieval.index import load_index

    if not keys:
        return f"is one that {where} holds of; nothing was removed"
    index = load_index(folder, model_id=None)
    known = index.entries["key"].to_pylist() if len(index) <= _MOST_COMPARED else []
    meant = suggestion(keys[0], [str(key) for key in known])
    more = f" or {counted(len(keys) - 1, 'other')}" if len(keys) > 1 else ""
    return f"has the key {keys[0]!r}{more}" + (meant or "; nothing was removed")


def _tell(folder: str, changed: Changed) -> None:
    done = [
        f"{number} {word}"
        for number, word in (
            (changed.num_added, "added"),
            (changed.num_replaced, "replaced"),
            (changed.num_removed, "removed"),
        )
        if number
    ]
    say(f"{folder}: {', '.join(done)}; now an {described_index(changed.settings)}")


def _kind(kind: Any) -> str:
    """Of a column, as a person compares its values."""
    plain = getattr(kind, "value_type", kind)
    return "text" if str(plain) == "string" else str(plain)


def _words(describing: Any) -> str:
    """How images were described, as options."""
    return join(options_to_words(options_from_json(describing))) if describing else ""
