"""``apdist audit``: what is wrong with images and labels, before and after a training."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from apdist.audit.exclusions import SAFE, Excluded
from apdist.data import storage
from apdist_verbs.terminal.console import counted, say, table, warn
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase, progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from apdist.audit.exclusions import Exclusions
    from apdist.audit.findings import Findings
    from apdist.audit.looks import Looks
    from apdist_verbs.auditing.subject import Audited

NAMES = {
    "leaks": "leaks: copies across splits",
    "duplicates": "duplicates within a split",
    "labels": "suspicious labels",
    "classes_that_are_one": "classes that are one",
    "outliers": "outliers",
    "damaged": "images that cannot be used",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Find leaks, duplicates, wrong labels, outliers; write a page and a list for data.exclude."""

    uri: Annotated[str, positional("DATA|RUN")]
    """Folder or s3:// prefix with shards, or the folder of a run: its shards are looked at with its
    model."""
    out: Annotated[str, shown_default("audit in the run's folder; of shards, audit here")] = ""
    """Folder for audit.html, audit.json, audit.csv and exclude.txt."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Of a run: other shards to look at with its model."""
    descriptors: Literal["auto", "imagenet", "none"] = "auto"
    """What images are compared by. auto: the model of a run, for shards imagenet where its package
    is installed (extra `lite0`), which has not learned from the labels; none: thumbnails alone,
    which find copies and judge no labels."""
    train_split: Annotated[str, shown_default("that of the run; of shards, train")] = ""
    """Split whose images exclude.txt may name."""
    exclude: tuple[Excluded, ...] = SAFE
    """Findings that exclude.txt lists: leaks, duplicates, damaged, labels, outliers."""
    most_shown: int = 40
    """Findings of each kind on the page; audit.csv has all."""
    max_mb: float = 5.0
    """Megabytes that the page may take: its pictures get smaller, then fewer."""

    def __post_init__(self) -> None:
        if self.most_shown < 1:
            raise ValueError(f"--most-shown must be at least 1, got {self.most_shown}")
        if not 0 < self.max_mb < 1000:  # nor NaN
            raise ValueError(f"--max-mb must be more than 0 and below 1000, got {self.max_mb:g}")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist audit")
    with phase("loading"):
        from apdist.audit.exclusions import exclusions
        from apdist_verbs.auditing.subject import what_to_audit
        from apdist_verbs.auditing.writing import write

    audited = what_to_audit(options)
    findings = find(audited)
    with phase("writing"):
        excluded = exclusions(findings, audited.catalogue, audited.train_split, options.exclude)
        notes = write(audited, findings, excluded, options)
    tell(audited, findings, excluded, notes)
    return 0


def find(audited: Audited) -> Findings:
    """Look at all images, describe those that can be used, and compare."""
    from apdist.audit.auditing import audit
    from apdist.audit.looks import look

    catalogue = audited.catalogue
    with progress_bar("looking at images", len(catalogue)) as update:
        looks = look(catalogue, num_threads=os.cpu_count() or 1, progress=update)
    descriptors = describe_sound(audited, looks)
    with progress_bar("comparing pictures", 0) as update:

        def compared(done: int, total: int) -> None:
            update.total = total
            update(done)

        return audit(catalogue, looks, descriptors, phase=update.phase, progress=compared)


def describe_sound(audited: Audited, looks: Looks) -> Tensor | None:
    """Descriptors (n, d) of all images; zeros for those that cannot be used."""
    import numpy as np
    import torch

    from apdist_verbs.described import describe_catalogue

    sound = np.setdiff1d(np.arange(len(looks)), list(looks.damaged))
    if audited.model is None or len(sound) < 2:
        return None
    found = describe_catalogue(audited.model, audited.catalogue.subset(sound), "images")
    if len(sound) == len(looks):
        return found
    whole = torch.zeros((len(looks), found.shape[1]), device=found.device)
    whole[torch.from_numpy(sound)] = found
    return whole


def tell(
    audited: Audited, findings: Findings, excluded: Exclusions, notes: tuple[str, ...]
) -> None:
    """Say what was found and where it is written."""
    from apdist.audit.findings import counts
    from apdist_verbs.auditing.writing import damage

    found = counts(findings)
    skipped = () if findings.has_descriptors else ("labels", "classes_that_are_one", "outliers")
    rows = [[NAMES[k], "not looked at" if k in skipped else str(n)] for k, n in found.items()]
    table(f"found in {counted(len(audited.catalogue), 'image')}", ["kind", "findings"], rows)
    for text in (*audited.notices, *excluded.notes):
        warn(text)
    for text in damage(findings, audited.catalogue):
        warn(text)
    for note in notes:
        say(f"to stay in the page's limit (--max-mb), {note}")
    say(f"page: {near(storage.join(audited.out, 'audit.html'))}")
    place = near(storage.join(audited.out, "exclude.txt"))
    say(f"{counted(len(excluded.rows), 'training image')} listed in {place}")
    if excluded.rows:
        say_next("train without them", *audited.train_words(place))
