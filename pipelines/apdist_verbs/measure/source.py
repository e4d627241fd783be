"""Where the descriptors of an evaluation come from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.model.pretrained import TrainedModel
from apdist.training.run_folder.runs import Run
from apdist_verbs.describe_options import (
    PLAIN,
    DescribeOptions,
    Expansion,
    options_from_json,
    options_to_json,
)
from apdist_verbs.terminal.devices import best_device
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apdist.data.catalogue.catalogue import Catalogue
    from apdist.data.images import Box
    from apdist_verbs.described import Described


@dataclass(frozen=True, kw_only=True)
class Source:
    """A run's model and the images that it is measured on."""

    run: Run
    model: TrainedModel
    shards: str
    describing: DescribeOptions
    tables: str
    """Folder of `apdist extract` with the images' descriptors; empty: they are described."""
    expansion: Expansion

    def split(self, name: str) -> Described:
        """The images of a split and their descriptors, on this machine's best device.

        Raises:
            ValueError: the split is missing, the whitening was learned from it, or the tables
                lack some of its images.
        """
        from apdist.retrieval.descriptor_tables import open_tables
        from apdist_verbs.described import Described, describe, split_of

        catalogue = split_of(self.run.config, self.shards, name)
        self._refuse_learned_from(catalogue, name)
        if not self.tables:
            where = self.run.uri, self.model.model_id, self.shards, name
            found = describe(*where, self.describing)
            return Described(found.catalogue, found.descriptors.to(best_device()))
        with phase("reading the descriptors"):
            tables = open_tables(self.tables, model_id=self.model.model_id)
            keys = catalogue.column("key").to_pylist()
            return Described(catalogue, tables.rows_of(keys).to(best_device()))

    def _refuse_learned_from(self, catalogue: Catalogue, split: str) -> None:
        from apdist.data.catalogue.selection import sharing_images
        from apdist.model.kept_whitenings import refuse_if_learned_from

        recipe = getattr(self.model.network, "recipe", None)
        if recipe is None or recipe.whitening is None:
            return
        what = f"the split {split!r} of {self.shards}"
        refuse_if_learned_from(recipe.whitening, catalogue.fingerprint(), what)
        config, whole = self.run.config, read_catalogue(self.shards)
        for name, other in sharing_images(split, whole, config.data, config.training.seed).items():
            shared = f"the split {name!r} of {self.shards}, which shares images with {split!r}"
            refuse_if_learned_from(recipe.whitening, other.fingerprint(), shared)

    def views(
        self, catalogue: Catalogue, what: str, views: Sequence[tuple[int, Box | None]]
    ) -> Tensor:
        """Descriptors of ``views``: rows of ``catalogue`` and what is cut out of each."""
        from apdist_verbs.described import describe_catalogue

        return describe_catalogue(self.model, catalogue, what, views)

    def facts(self) -> dict[str, Any]:
        """What the JSON says of it."""
        return {
            "model": self.model.model_id,
            "data": self.shards,
            "describing": options_to_json(self.describing),
            "expansion": asdict(self.expansion),
        }


def notes_on_cuts(source: Source) -> list[str]:
    """A word where the run was trained to be cut, and it is not measured."""
    sizes = source.run.config.loss.matryoshka
    if not sizes or source.describing.dim:
        return []
    return [f"trained to be cut to {' or '.join(map(str, sizes))} numbers: --dim N measures that"]


def describing_of(tables: str, wanted: DescribeOptions, shards: str) -> DescribeOptions:
    """How the descriptors in the folder ``tables`` of `apdist extract` were made.

    Raises:
        ValueError: they are of other images, nobody knows how they were made, or not as ``wanted``.
    """
    from apdist_verbs.describe_options import CONTENTS

    uri = storage.join(tables, CONTENTS)
    if not storage.exists(uri):
        raise ValueError(
            f"{tables} has no {CONTENTS}: it is no folder of `apdist extract --out`; give one"
        )
    try:
        contents = read_json(storage.read_bytes(uri))
        data, describing = contents["data"], options_from_json(contents["describing"])
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{uri} is damaged; extract again into another folder") from error
    if data != read_catalogue(shards).fingerprint():
        raise ValueError(
            f"{tables} holds descriptors of other images than {shards} (or of these before they "
            "were prepared or labelled again); extract them again"
        )
    if wanted not in (PLAIN, describing):
        raise ValueError(
            f"{tables} was made with {_options(describing)}, this command says {_options(wanted)}; "
            "leave these options out, or extract again with them"
        )
    return describing


def _options(describing: DescribeOptions) -> str:
    """As they are written on the command line."""
    words = []
    for name, value in options_to_json(describing).items():
        if value != getattr(PLAIN, name):
            values = " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else value
            words.append(f"--{name.replace('_', '-')} {values}")
    return " ".join(words) or "none of --size, --scales, --whiten, --dim"
