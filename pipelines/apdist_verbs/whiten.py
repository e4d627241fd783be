"""``apdist whiten``: a whitening of a run's descriptors, kept in the run by name."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from apdist.config.values import at_least, in_range
from apdist.data import storage
from apdist_verbs.describe_options import PLAIN, SHARED, DescribeOptions, with_recipe
from apdist_verbs.start.checks import refuse_unwritable_run
from apdist_verbs.terminal.console import counted, say, warn
from apdist_verbs.terminal.fields import shown_default
from apdist_verbs.terminal.next_step import near
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase, progress_bar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from apdist.data.catalogue.catalogue import Catalogue
    from apdist.model.whitening import Whitening
    from apdist.training.run_folder.runs import Run


@dataclass(frozen=True, kw_only=True)
class Options:
    """Learn a whitening of a run's descriptors from images that it is not measured on."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run whose model describes; the whitening is kept there."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with the shards to learn from."""
    split: Annotated[str, shown_default("the run's training split")] = ""
    """Split to learn from."""
    kind: Literal["pca", "supervised"] = "pca"
    """pca: axes of largest variance, each over variance^power; supervised: differences of images of
    a class made equally large along all axes, rotated to those of largest variance."""
    pairs: Annotated[str, shown_default("all pairs of a class")] = ""
    """CSV file of the pairs that `supervised` learns from, two images a line, by source or key."""
    power: float = 0.25
    """Of the variances that `pca` divides by: 0.5 whitens fully, 0 only rotates."""
    num_components: int = 0
    """Axes to keep, those of largest variance; 0: all."""
    name: Annotated[str, shown_default("the folder of the shards and the split")] = ""
    """Name of the images that it is learned from, and of the whitening."""
    describing: Annotated[DescribeOptions, SHARED] = PLAIN

    def __post_init__(self) -> None:
        in_range("--power", self.power, 0, 1)
        at_least("--num-components", self.num_components, 0)
        if self.describing.whiten:
            raise ValueError("--whiten names a whitening, and here one is learned; leave it out")
        if self.describing.dim:
            raise ValueError(
                f"--dim {self.describing.dim} cuts what a whitening gives; leave it out, "
                "--num-components keeps fewer axes"
            )
        if self.pairs and self.kind != "supervised":
            raise ValueError(f"--pairs belongs to --kind supervised, got --kind {self.kind}")
        if self.power != Options.power and self.kind != "pca":
            raise ValueError(f"--power belongs to --kind pca, got --kind {self.kind}")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist whiten")
    with phase("loading"):
        from apdist.model.kept_whitenings import keep_whitening
        from apdist_verbs.described import find_run, shards_of, split_of

    run = find_run(options.run)
    shards, split = shards_of(run, options.shards), options.split or run.config.data.train_split
    refuse_unwritable_run(
        "a whitening is kept in its run,", run.uri, "learn it of a copy of the run that is yours"
    )
    name = options.name or f"{shards.rstrip('/').rpartition('/')[2]} {split}"
    refuse(run, shards, split, name)
    warn_of_holdout(run, shards, split)
    catalogue = split_of(run.config, shards, split)
    found = dataclasses.replace(
        learn(run, catalogue, options), learned_on=name, images=catalogue.fingerprint()
    )
    keep_whitening(found, run.uri, name)
    say(
        f"{near(run.uri)}: whitening {name!r}, {options.kind}, {len(found.mean)} to "
        f"{len(found.projection)}, from {counted(len(catalogue), 'image')}"
    )
    return 0


def refuse(run: Run, shards: str, split: str, name: str) -> None:
    """Raise unless a whitening of that name may be learned from a split.

    Raises:
        ValueError: the run is measured on it, or has a whitening of that name.
    """
    from apdist.model.kept_whitenings import whitening_names

    own = run.config.data
    if split == own.eval_split and shards == storage.absolute(own.shards):
        raise ValueError(
            f"{run.uri} is measured on the split {split!r}: whitened by what is learned from it, "
            "its figures would flatter; give another --split, or other --shards"
        )
    if name in whitening_names(run.uri):
        raise ValueError(f"{run.uri} has a whitening {name!r} already; give another --name")


def warn_of_holdout(run: Run, shards: str, split: str) -> None:
    """Warn where the images that the run is measured on are some of those to learn from."""
    from apdist.data.catalogue.catalogue import read_catalogue
    from apdist.data.catalogue.selection import sharing_images

    own = run.config.data
    if shards != storage.absolute(own.shards):
        return
    shared = sharing_images(split, read_catalogue(shards), own, run.config.training.seed)
    if own.eval_split in shared:
        warn(
            f"{run.uri} is measured on the split {own.eval_split!r}, which shares images with "
            f"{split!r}: `apdist evaluate` refuses this whitening there"
        )


def learn(run: Run, catalogue: Catalogue, options: Options) -> Whitening:
    """What the options ask for, on the CPU.

    Raises:
        ValueError: pairs that are not there, or more components than there can be.
    """
    from apdist.data.catalogue.pairs import read_pairs
    from apdist.model.descriptor import DescriptorNet
    from apdist.model.whitening import TooFewSamplesError
    from apdist.retrieval.learning import learn_whitening
    from apdist_verbs.described import trained_model
    from apdist_verbs.terminal.devices import best_device

    plain = trained_model(run)
    assert isinstance(plain.network, DescriptorNet)
    dim, model = plain.network.dim, with_recipe(plain, options.describing, run.uri)
    if options.num_components > dim:
        raise ValueError(
            f"--num-components {options.num_components}: the descriptors of {run.uri} have "
            f"{dim} numbers; keep at most so many"
        )
    pairs: NDArray[np.int64] | Literal["labels", "none"] = "none"
    if options.kind == "supervised":
        pairs = read_pairs(options.pairs, catalogue) if options.pairs else "labels"
    try:
        with progress_bar("describing", len(catalogue)) as update:
            found = learn_whitening(
                model.network.to(best_device()),
                catalogue,
                dim=dim,
                fit=model.fit,
                pairs=pairs,
                num_components=options.num_components,
                power=options.power,
                progress=update,
            )
    except TooFewSamplesError as error:
        fewer = f", or keep fewer: --num-components {error.rank} or less" if error.rank else ""
        raise ValueError(
            f"the descriptors of {counted(len(catalogue), 'image')} vary along {error.rank} of "
            f"{dim} dimensions; learn from more images{fewer}"
        ) from error
    return dataclasses.replace(
        found,
        mean=found.mean.cpu(),
        projection=found.projection.cpu(),
        model=plain.model_id,
        size=options.describing.size,
        scales=options.describing.scales,
        scale_power=options.describing.scale_power,
    )
