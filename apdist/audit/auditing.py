"""The whole audit of a catalogue.

Shapes: n images, d descriptor size, k neighbours of each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apdist.audit.candidates import candidate_pairs, chained, neighbours, thumbnail_neighbours
from apdist.audit.correlation import match
from apdist.audit.duplicates import Duplicates, find_duplicates, least_doubtful_first
from apdist.audit.findings import Findings
from apdist.audit.labels import classes_that_are_one, suspicious_labels, vote
from apdist.audit.looks import Looks
from apdist.audit.outliers import find_outliers
from apdist.data.catalogue.catalogue import Catalogue

NUM_NEIGHBOURS = 50
"""That vote on labels."""
_SPARE = 10
"""Neighbours beside them that may be copies, which have no vote."""


def audit(
    catalogue: Catalogue,
    looks: Looks,
    descriptors: Tensor | None,
    *,
    phase: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Findings:
    """Everything that is wrong with the images of ``catalogue``, as far as it can be seen.

    Args:
        catalogue: the images.
        looks: `look` of them.
        descriptors: (n, d) of unit length; None: labels, classes and outliers are not looked at.
            Rows of damaged images are passed over.
        phase: called with what begins.
        progress: called with the number of pairs compared, and of how many.
    """
    phase("looking for what is alike")
    sound = np.setdiff1d(np.arange(len(catalogue)), list(looks.damaged))
    by_descriptor = None
    if descriptors is not None and len(sound) > 1:
        by_descriptor = _among(sound, descriptors)
    pairs = candidate_pairs(
        looks, thumbnail_neighbours(looks) if len(looks) > 1 else [], by_descriptor
    )
    phase("comparing pictures")
    found = match(looks, pairs, lambda done: progress(done, len(pairs)))
    groups = find_duplicates(catalogue, looks, pairs, found, chained(looks.digests))
    if by_descriptor is None:
        return Findings(
            duplicates=groups,
            labels=[],
            one_classes=[],
            outliers=[],
            damaged=looks.damaged,
            has_descriptors=False,
        )
    phase("judging labels")
    labels = catalogue.labels
    scores, rows = without_duplicates(*by_descriptor, groups)
    votes = vote(scores, rows, labels)
    ones = classes_that_are_one(scores, rows, labels)
    return Findings(
        duplicates=least_doubtful_first(groups, votes.doubts),
        labels=suspicious_labels(votes, rows, labels, ones),
        one_classes=ones,
        outliers=find_outliers(scores, rows, labels),
        damaged=looks.damaged,
        has_descriptors=True,
    )


def _among(sound: NDArray[np.int64], descriptors: Tensor) -> tuple[Tensor, Tensor]:
    """`neighbours` (n, k) of the rows in ``sound``; all others have none."""
    k = NUM_NEIGHBOURS + _SPARE
    inside = torch.from_numpy(sound).to(descriptors.device)
    scores = torch.full((len(descriptors), k), -1.0)
    rows = torch.full((len(descriptors), k), -1)
    near, places = neighbours(descriptors[inside], k)
    scores[sound], rows[sound] = near, torch.where(places < 0, -1, inside.cpu()[places])
    return scores, rows


def without_duplicates(
    scores: Tensor, rows: Tensor, groups: list[Duplicates]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The nearest other pictures (n, k): copies of an image are no witnesses of its label.

    A place without any has the row -1 and the score NaN.
    """
    group = np.arange(len(rows))
    for number, found in enumerate(groups):
        group[list(found.rows)] = len(rows) + number
    near = rows.numpy()
    is_other = (near >= 0) & (group[near] != group[:, None])
    order = np.argsort(~is_other, axis=1, kind="stable")[:, :NUM_NEIGHBOURS]
    is_other = np.take_along_axis(is_other, order, axis=1)
    return (
        np.where(is_other, np.take_along_axis(scores.numpy(), order, axis=1), np.nan),
        np.where(is_other, np.take_along_axis(near, order, axis=1), -1),
    )
