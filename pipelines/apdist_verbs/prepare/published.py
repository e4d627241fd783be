"""``apdist prepare roxford5k|sop|cub|...``: published data sets as their archives unpack."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.preparing.published.description import PublishedSet
from apdist_verbs.prepare.folder import refuse_inside
from apdist_verbs.prepare.write import Writing, write
from apdist_verbs.terminal.console import counted, say, warn
from apdist_verbs.terminal.fields import positional
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
    from apdist.data.preparing.published.reading import Found


@dataclass(frozen=True, kw_only=True)
class PreparePublished(Writing):
    """Write shards of a published data set."""

    root: Annotated[Path, positional("ROOT")]
    """Folder that its archives were unpacked in."""
    subset: bool = False
    """Take what is there: images that are missing are left out, also of the ground truth, and
    counts are not compared. Figures on it are none that were published."""
    on_corrupt: Literal["error", "skip"] = "error"
    """What to do with damaged pictures."""
    max_side: int = 0
    """Shrink larger images to this longest side in pixels; 0 keeps every file as it is. Not for
    sets whose queries have boxes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_side < 0:
            raise ValueError(f"--max-side must be 0 or more pixels, got {self.max_side}")


def prepare_published(which: PublishedSet, options: PreparePublished) -> int:
    """Write the set ``which``."""
    if options.max_side and which.has_boxes:
        raise ValueError(
            f"--max-side does not go with {which.name}: the boxes of its queries are in pixels of "
            "the files; leave it out, evaluation.resize shrinks images when they are described"
        )
    refuse_inside(options.out, options.root)
    with phase("loading"):
        from apdist.data.preparing.folder import encode_file
        from apdist.data.preparing.published.reading import read_published
    with phase("reading the lists"):
        found = read_published(
            which, options.root, is_subset=options.subset, max_side=options.max_side
        )

    if options.subset:
        warn(
            f"--subset: what is there is not compared with the counts of {which.name}, and figures "
            "on it are none that were published"
        )

    def beside(catalogue: Catalogue) -> None:
        write_judged(which, found, catalogue)

    write(
        found.items,
        encode_file,
        options,
        is_strict=options.on_corrupt == "error",
        tally=found.tally,
        has_labels=all(count.classes for count in which.counts.values()),
        beside=beside,
    )
    return 0


def write_judged(which: PublishedSet, found: "Found", catalogue: Catalogue) -> None:
    """Write each ground truth beside the shards, with the keys of the catalogue."""
    from apdist.data.ground_truth.ground_truth_file import write_ground_truth
    from apdist.data.preparing.published.reading import keyed

    sources = catalogue.column("source").to_pylist()
    keys = dict(zip(sources, catalogue.column("key").to_pylist(), strict=True))
    truths: dict[str, GroundTruth] = {}
    for name, queries in found.judged.items():
        left, lost = keyed(queries, keys)
        if left:
            truths[name] = _truth(which, left, catalogue)
        if lost:
            warn(
                f"{judged_file(name)} lacks {counted(lost, 'image')} that {which.name} judges; "
                "figures on it are none that were published"
            )
    for name, truth in truths.items():
        write_ground_truth(storage.join(catalogue.root, judged_file(name)), truth)
        say(f"{judged_file(name)}: {counted(len(truth.queries), 'query', 'queries')}")


def _truth(
    which: PublishedSet, queries: "tuple[JudgedQuery, ...]", catalogue: Catalogue
) -> "GroundTruth":
    from apdist.data.ground_truth.ground_truth import GroundTruth
    from apdist.retrieval.protocols.queries import first_misfit, query_rows

    try:
        truth = GroundTruth(protocol=which.protocol, queries=queries)
    except ValueError as error:
        raise ValueError(f"the ground truth of {which.name} cannot be used: {error}") from None
    misfit, _ = first_misfit(truth, catalogue, query_rows(truth, catalogue, splits=()))
    if misfit:
        raise ValueError(
            f"{misfit}; ground truth and images do not go together: download both from "
            f"{which.address}"
        )
    return truth


def judged_file(name: str) -> str:
    """The file of a ground truth beside the shards; the one that counts has no ``name``."""
    from apdist.data.ground_truth.ground_truth_file import NAME

    return NAME.replace(".", f"_{name}.") if name else NAME
