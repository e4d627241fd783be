"""What goes into an index: images of shards, pictures of a folder, or descriptors in tables.

Shapes: n images, d descriptor size.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.training.run_folder.runs import Run
from apdist_verbs.describe_options import PLAIN, DescribeOptions, options_from_json
from apdist_verbs.terminal.console import counted, warn
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.progress import phase, progress_bar

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from apdist.data.catalogue.catalogue import Catalogue
    from apdist.model.pretrained import TrainedModel
    from apdist.retrieval.stored.writing import Part

ALL = "all"
"""For all splits, where no split has that name."""
_AT_ONCE = 4096
"""Descriptors of pictures in a part."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """Which images: those of shards, unless a folder of pictures or tables are given."""

    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with the shards to take images from."""
    split: Annotated[str, shown_default("the run's evaluation split; of a table, all")] = ""
    """Splits to take, with commas between them; `all` for every image."""
    images: Annotated[str, shown_default("none")] = ""
    """Folder or s3:// prefix of pictures, with all folders below it; no shards are needed."""
    table: Annotated[str, shown_default("none")] = ""
    """Descriptors that are there: a folder of `apdist extract`, or one .parquet file of it."""
    on_corrupt: Literal["error", "skip"] = "skip"
    """What to do with damaged pictures of --images: left out and named, or an error."""

    def __post_init__(self) -> None:
        given = [name for name in ("shards", "images", "table") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(
                f"--{given[0]} and --{given[1]} are two places to take images from; give one, and "
                "`apdist index add` the other"
            )
        if self.images and self.split:
            raise ValueError("--split is of shards and tables; a folder of --images has none")
        if self.on_corrupt == "error" and not self.images:
            raise ValueError("--on-corrupt is for --images; shards are checked as they are read")


OF_THE_RUN = Images()


@contextmanager
def followed_by(parts: Iterator[Part], name: str) -> Iterator[Iterator[Part]]:
    """``parts``, which show their own progress, and after them the phase ``name``."""
    with ExitStack() as rest:

        def all_of_them() -> Generator[Part, None, None]:
            yield from parts
            rest.enter_context(phase(name))

        with closing(all_of_them()) as whole:
            yield whole


@dataclass(frozen=True)
class Source:
    """Images, or descriptors of them, that are to go into an index."""

    what: str
    model_id: str
    """Of what describes them."""
    describing: DescribeOptions
    """How they are described."""
    keys: pa.ChunkedArray
    """(n,) of each image, before anything is described."""
    parts: Callable[[NDArray[np.bool_]], Iterator[Part]]
    """Descriptors and entries of the images that a mask (n,) lets through."""

    def __len__(self) -> int:
        return len(self.keys)

    def all_parts(self) -> Iterator[Part]:
        """Of every image."""
        return self.parts(np.ones(len(self), dtype=bool))


def find_source(images: Images, run: Run | None, describing: DescribeOptions, out: str) -> Source:
    """What ``images`` names, described with the model of ``run``.

    Args:
        images: which.
        run: None where descriptors are there and nobody says of which run.
        describing: how they are described.
        out: names a file of pictures that were left out, where they are many.

    Raises:
        ValueError: there are none, or the run's model does not suit.
    """
    from apdist_verbs.described import trained_model

    if images.table:
        return _of_table(images, run, describing)
    assert run is not None
    model = trained_model(run, describing)
    if images.images:
        return _of_pictures(images, model, describing, out)
    return _of_shards(images, run, model, describing)


def _of_shards(
    images: Images, run: Run, model: TrainedModel, describing: DescribeOptions
) -> Source:
    from apdist_verbs.described import describe, describe_catalogue, shards_of, split_name

    shards, split = shards_of(run, images.shards), images.split or split_name(run)
    with phase("reading the catalogue"):
        catalogue = _splits(run, shards, split)

    def parts(wanted: NDArray[np.bool_]) -> Iterator[Part]:
        if wanted.all() and "," not in split and split != ALL:  # the demo has just measured these
            found = describe(run.uri, model.model_id, shards, split, describing)
            yield found.descriptors, entries(found.catalogue)
        elif wanted.any():
            some = catalogue.subset(np.flatnonzero(wanted))
            yield describe_catalogue(model, some, split), entries(some)

    return Source(_named(split), model.model_id, describing, catalogue.column("key"), parts)


def _named(split: str) -> str:
    if split == ALL:
        return "every image"
    return f"the split{'s' if ',' in split else ''} {split}"


def _splits(run: Run, shards: str, text: str) -> Catalogue:
    """The images of the splits in ``text``, of which `holdout` depends on the run's options."""
    import pyarrow.compute as pc

    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.data.catalogue.selection import images_of

    whole = read_catalogue(shards)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == [ALL] and ALL not in whole.splits():
        return whole
    found = [images_of(name, whole, run.config.data, run.config.training.seed) for name in names]
    if len(found) == 1:
        return found[0]
    wanted = np.zeros(len(whole), dtype=bool)
    for some in found:
        keys = some.column("key").combine_chunks()
        wanted |= pc.is_in(whole.column("key"), value_set=keys).to_numpy()
    return whole.subset(np.flatnonzero(wanted))


def entries(catalogue: Catalogue) -> pa.Table:
    """What a result tells: all that is known of an image, and where its bytes lie."""
    import pyarrow as pa

    table = catalogue.table
    names = table["shard"].to_pylist()
    # Without the signature, which would be seen by all who search.
    uri_of = {name: storage.shown(storage.join(catalogue.root, name)) for name in set(names)}
    uris = [uri_of[name] for name in names]
    columns = ["key", "source", "label", "label_name", "split", "width", "height", "offset", "size"]
    return table.select(columns).append_column("shard", pa.array(uris).dictionary_encode())


def _of_pictures(
    images: Images, model: TrainedModel, describing: DescribeOptions, out: str
) -> Source:
    import pyarrow as pa

    from apdist.data.loading.pictures import find_pictures
    from apdist.data.preparing.tally import Tally
    from apdist_verbs.prepare.write import say_tally

    tally = Tally()
    root = storage.absolute(images.images)
    with phase("looking for pictures"):
        found = find_pictures(root, tally)
    say_tally(tally)
    keys = pa.chunked_array([pa.array([picture.key for picture in found], pa.string())])

    def parts(wanted: NDArray[np.bool_]) -> Iterator[Part]:
        from apdist_verbs.prepare.write import named

        refused: list[tuple[str, str]] = []
        pictures = [found[row] for row in np.flatnonzero(wanted)]
        yield from _described_pictures(model, pictures, refused, images.on_corrupt == "error")
        if refused:
            what = f"left out {counted(len(refused), 'file')} without a readable image"
            warn(named(refused, out, what))

    return Source(f"the pictures in {images.images}", model.model_id, describing, keys, parts)


def _described_pictures(
    model: TrainedModel, pictures: list[Any], refused: list[tuple[str, str]], is_strict: bool
) -> Iterator[Part]:
    import torch

    from apdist.data.loading.pictures import Picture, picture_batches
    from apdist.retrieval.describe import describe_batches
    from apdist_verbs.terminal.devices import best_device

    def refuse(picture: Picture, why: str) -> None:
        if is_strict:
            raise ValueError(f"{picture.uri} {why}; remove it, or leave --on-corrupt out")
        refused.append((picture.key, why))

    num_bytes = np.zeros(len(pictures), dtype=np.int64)
    batches = picture_batches(pictures, fit=model.fit, refused=refuse, num_bytes=num_bytes)
    rows: list[NDArray[np.int64]] = []
    there: list[Any] = []
    done = 0
    with progress_bar("describing pictures", len(pictures)) as update:
        for batch, descriptors in describe_batches(model.network.to(best_device()), batches):
            rows.append(batch)
            there.append(descriptors.cpu())
            done += len(batch)
            update(done + len(refused))
            if sum(map(len, rows)) >= _AT_ONCE:
                yield torch.cat(there), _picture_entries(pictures, np.concatenate(rows), num_bytes)
                rows, there = [], []
    if rows:
        yield torch.cat(there), _picture_entries(pictures, np.concatenate(rows), num_bytes)


def _picture_entries(
    pictures: list[Any], rows: NDArray[np.int64], num_bytes: NDArray[np.int64]
) -> pa.Table:
    """As `entries`: a picture is a shard of its own, and its folder the name of its class."""
    import pyarrow as pa

    from apdist.data.text import shown_name

    some = [pictures[row] for row in rows]
    return pa.table(
        {
            "key": pa.array([picture.key for picture in some], pa.string()),
            "source": pa.array([picture.key for picture in some], pa.string()),
            "label_name": pa.array([picture.folder for picture in some]).dictionary_encode(),
            "offset": np.zeros(len(some), dtype=np.int64),
            "size": num_bytes[rows],
            "shard": pa.array([shown_name(picture.uri) for picture in some], pa.string()),
        }
    )


def _of_table(images: Images, run: Run | None, describing: DescribeOptions) -> Source:
    from apdist.retrieval.descriptor_tables import KEY_COLUMN, model_of, open_tables
    from apdist_verbs.described import trained_model

    uri = storage.absolute(images.table)
    if describing != PLAIN:
        raise ValueError(
            "--size, --scales, --scale-power, --whiten and --dim say how images are described, and "
            "those of a --table are; leave them out, or give them to `apdist extract`"
        )
    with phase("looking at the tables"):
        model_id, noted = model_of(uri), _noted_making(uri)
        tables = open_tables(uri, model_id=model_id)
        keys = tables.column(KEY_COLUMN)
        taken = np.ones(len(keys), dtype=bool)
        if images.split and images.split != ALL:
            taken = _of_splits(tables.column("split"), images.split, uri)
    if run is not None and (own := trained_model(run, noted).model_id) != model_id:
        raise ValueError(
            f"{images.table} holds descriptors of model {model_id}, the run {run.uri} has model "
            f"{own}; give the run that described them: --run RUN"
        )

    def parts(wanted: NDArray[np.bool_]) -> Iterator[Part]:
        done, mask = 0, taken.copy()
        mask[taken] = wanted
        with progress_bar("reading descriptors", len(mask)) as update:
            for descriptors, others in tables.described():
                some = mask[done : done + len(descriptors)]
                done += len(descriptors)
                update(done)
                if some.any():
                    yield descriptors[some], others.filter(some)

    return Source(f"the descriptors in {images.table}", model_id, noted, keys.filter(taken), parts)


def _of_splits(column: pa.ChunkedArray, text: str, uri: str) -> NDArray[np.bool_]:
    """(n,) bool: which rows of a table are of the splits in ``text``."""
    there = column.to_numpy()
    taken = np.zeros(len(there), dtype=bool)
    for name in (name.strip() for name in text.split(",")):
        some = there == name
        if not some.any():
            names = ", ".join(sorted({str(known) for known in there}))
            raise ValueError(f"split {name!r} is not in {uri}; it has {names}")
        taken |= some
    return taken


def _noted_making(uri: str) -> DescribeOptions:
    """How `apdist extract` described what is in the tables; as the run measures, if nobody says."""
    from apdist_verbs.describe_options import CONTENTS

    folder = uri.rpartition("/")[0] if uri.endswith(".parquet") else uri
    contents = storage.join(folder, CONTENTS)
    if not storage.exists(contents):
        return PLAIN
    try:
        return options_from_json(read_json(storage.read_bytes(contents))["describing"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{contents} is damaged; let `apdist extract` write it again") from error
