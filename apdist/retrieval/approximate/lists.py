"""Centres of the lists of an inverted index, and which list a descriptor is in.

faiss does this, too; its products of matrices take five times as long on a CPU.

Shapes: n descriptors, d their size, l lists.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.retrieval.ranking import nearest_rows

_ROUNDS = 4
"""More hardly move a centre."""


def learned_centres(descriptors: Tensor, num_lists: int) -> Tensor:
    """Centres (l, d) of unit length by spherical k-means, the same every time.

    Args:
        descriptors: (n, d) float32 of unit length, in random order; the first are where it begins.
        num_lists: l, at most n.
    """
    centres = descriptors[:num_lists].clone()
    for _ in range(_ROUNDS):
        scores, lists = nearest_rows(descriptors, centres, 1)
        sums = torch.zeros_like(centres).index_add_(0, lists[:, 0], descriptors)
        # One that lost all of its images begins anew at an image far from every centre.
        lost = (torch.bincount(lists[:, 0], minlength=num_lists) == 0).nonzero()[:, 0]
        sums[lost] = descriptors[scores[:, 0].argsort(stable=True)[: len(lost)]]
        centres = F.normalize(sums, dim=1)
    return centres


def lists_of(descriptors: Tensor, centres: Tensor) -> Tensor:
    """The list (n,) of each of ``descriptors`` (n, d): that of the nearest centre."""
    return nearest_rows(descriptors, centres, 1)[1][:, 0]
