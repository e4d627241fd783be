"""Whitening learned from the images of a split, of which no descriptor is kept.

Shapes: b images in a batch, m pairs, d descriptor size.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.images import Fit
from apdist.model.moments import Moments
from apdist.model.whitening import (
    Whitening,
    pca_whitening_of,
    supervised_whitening_of,
    whitening_of_pairs,
)
from apdist.retrieval.describe import described_batches

_PAIRS_AT_ONCE = 8192


def learn_whitening(
    network: nn.Module,
    catalogue: Catalogue,
    *,
    dim: int,
    fit: Fit,
    pairs: NDArray[np.int64] | Literal["labels", "none"] = "none",
    num_components: int = 0,
    power: float = 0.5,
    progress: Callable[[int], None] = lambda _: None,
) -> Whitening:
    """PCA whitening of descriptors, or whitening of the differences within pairs.

    Args:
        network: maps (b, 3, h, w) uint8 to descriptors (b, d).
        catalogue: the images.
        dim: d.
        fit: how they are resized.
        pairs: none: PCA. labels: all pairs of a class; one of m images has m (m - 1) of them. Or
            rows (m, 2) of ``catalogue``, whose descriptors then lie on the disk for a while.
        num_components: axes to keep; 0 keeps all d.
        power: of the variances that a PCA divides by.
        progress: called with the number of images done.

    Raises:
        ValueError: no class has two images, or they vary along fewer axes than are kept.
    """
    described = _described(network, catalogue, fit, progress)
    device = next(network.parameters()).device
    if isinstance(pairs, np.ndarray):
        return _from_pairs(described, pairs, Moments(dim, device), num_components)
    _, labels, sizes = np.unique(catalogue.labels, return_inverse=True, return_counts=True)
    if pairs == "labels" and sizes.max() < 2:
        raise ValueError(
            f"none of the {len(sizes)} classes has two images, so there are no pairs to learn "
            "from; use more images of a class, or PCA"
        )
    moments = Moments(dim, device, torch.from_numpy(sizes) if pairs == "labels" else None)
    with closing(described):
        for rows, descriptors in described:
            of_batch = torch.from_numpy(labels[rows]) if pairs == "labels" else None
            moments.add(descriptors, of_batch)
    if pairs == "labels":
        return supervised_whitening_of(moments, num_components=num_components)
    return pca_whitening_of(moments, num_components=num_components, power=power)


def _described(
    network: nn.Module, catalogue: Catalogue, fit: Fit, progress: Callable[[int], None]
) -> Generator[tuple[NDArray[np.int64], Tensor], None, None]:
    """Rows (b,) and descriptors (b, d)."""
    done = 0
    with closing(described_batches(network, catalogue, fit=fit)) as batches:
        for rows, descriptors in batches:
            yield rows, descriptors
            done += len(rows)
            progress(done)


def _from_pairs(
    described: Generator[tuple[NDArray[np.int64], Tensor], None, None],
    pairs: NDArray[np.int64],
    moments: Moments,
    num_components: int,
) -> Whitening:
    dim, device = len(moments.mean), moments.mean.device
    needed, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    firsts, differences = Moments(dim, device), Moments(dim, device)
    with TemporaryDirectory() as folder, closing(described):
        # Partners come at any time: memory would have to hold nearly all.
        kept = np.memmap(Path(folder, "kept"), np.float32, "w+", shape=(len(needed), dim))
        for rows, descriptors in described:
            moments.add(descriptors)
            inside = np.isin(rows, needed)
            kept[np.searchsorted(needed, rows[inside])] = descriptors.cpu().numpy()[inside]
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            first, second = (
                torch.from_numpy(kept[column]).to(device).double()
                for column in places[start : start + _PAIRS_AT_ONCE].T
            )
            firsts.add(first)
            differences.add(first - second)
        del kept
    return whitening_of_pairs(moments, firsts, differences, num_components=num_components)
