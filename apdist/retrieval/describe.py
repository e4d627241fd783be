"""Descriptors of a whole split, shard after shard.

Shapes: n images of the split, d descriptor size.
"""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.images import Box, Fit
from apdist.data.loading.feed import on_device
from apdist.data.loading.sequential import Views, evaluation_batches, shard_names
from apdist.model.pieces import in_pieces, pieces

_LONGEST_WAIT_BYTES = 64 << 20
"""Descriptors that may lie on a device before they are fetched."""


def describe_images(
    network: nn.Module,
    catalogue: Catalogue,
    *,
    fit: Fit,
    batch_size: int = 256,
    num_threads: int = 2,
    shards: Iterable[str] | None = None,
    views: Views | None = None,
    go_on: Callable[[bool], bool] | None = None,
    bf16: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[NDArray[np.int64], Tensor]:
    """Describe the images of ``catalogue``; the network's mode is left as it was found.

    Args:
        network: maps (b, 3, h, w) uint8 to descriptors (b, d).
        catalogue: the images.
        fit: how they are resized.
        batch_size: images at once.
        num_threads: threads that decode.
        shards: names of the shards to describe; None means all.
        views: parts of images to describe in place of images, by row.
        go_on: asked before each pass of images through the network, told whether there are some.
            Passes go on without images until it says no: the workers of a network with sharded
            parameters wait for each other in every pass.
        bf16: run the network under bf16 autocast; descriptors are float32 nevertheless.
        progress: called with the number of images done.

    Returns:
        (m,) rows of ``catalogue``, or numbers of views, and (m, d) their descriptors on the CPU, as
        the shards have them.
    """
    rows: list[NDArray[np.int64]] = []
    descriptors = _Collected()
    described = described_batches(
        network,
        catalogue,
        fit=fit,
        batch_size=batch_size,
        num_threads=num_threads,
        shards=shards,
        views=views,
        go_on=go_on,
        bf16=bf16,
    )
    with closing(described) as batches:
        for batch, found in batches:
            rows.append(batch)
            descriptors.add(found)
            progress(sum(len(r) for r in rows))
    if not rows:
        return np.empty(0, dtype=np.int64), torch.empty(0, 0)
    return np.concatenate(rows), descriptors.all()


def described_batches(
    network: nn.Module,
    catalogue: Catalogue,
    *,
    fit: Fit,
    batch_size: int = 256,
    num_threads: int = 2,
    shards: Iterable[str] | None = None,
    views: Views | None = None,
    go_on: Callable[[bool], bool] | None = None,
    bf16: bool = False,
) -> Generator[tuple[NDArray[np.int64], Tensor], None, None]:
    """Rows (b,) and their descriptors (b, d) on the network's device, batch by batch.

    The arguments are those of `describe_images`.
    """
    names = shard_names(catalogue) if shards is None else list(shards)
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()

    def described(images: Tensor) -> Tensor:
        # Here, so that neither mode holds for who takes the batches.
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, bf16):
            found: Tensor = network(images)
        return found.float() if bf16 else found

    try:
        read = evaluation_batches(
            catalogue,
            fit=fit,
            batch_size=batch_size,
            num_threads=num_threads,
            shards=names,
            views=views,
        )
        with closing(on_device(read, device)) as batches:
            for batch, images in batches:
                found = []
                for piece in pieces(images):
                    if go_on is not None:
                        go_on(True)
                    found.append(described(piece))
                yield batch, torch.cat(found)
        blank = torch.zeros((1, 3, fit.side, fit.side), dtype=torch.uint8, device=device)
        while go_on is not None and go_on(False):
            described(blank)
    finally:
        network.train(was_training)


def describe_batches(
    network: nn.Module, batches: Generator[tuple[NDArray[np.int64], Tensor], None, None]
) -> Generator[tuple[NDArray[np.int64], Tensor], None, None]:
    """Rows (b,) and, of their images (b, 3, h, w), descriptors (b, d) on the network's device."""
    was_training = network.training
    network.eval()
    try:
        with closing(on_device(batches, next(network.parameters()).device)) as moved:
            for rows, images in moved:
                with torch.no_grad():
                    found = in_pieces(network, images)
                yield rows, found
    finally:
        network.train(was_training)


class _Collected:
    """Descriptors in host memory; a device is asked for many batches at once, and waits less."""

    def __init__(self) -> None:
        self._there: list[Tensor] = []
        self._here: list[Tensor] = []

    def add(self, found: Tensor) -> None:
        self._there.append(found)
        if sum(part.nbytes for part in self._there) >= _LONGEST_WAIT_BYTES:
            self._fetch()

    def all(self) -> Tensor:
        self._fetch()
        return torch.cat(self._here)

    def _fetch(self) -> None:
        if self._there:
            self._here.append(torch.cat(self._there).cpu())
            self._there = []


def describe_split(
    network: nn.Module,
    catalogue: Catalogue,
    *,
    fit: Fit,
    progress: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Descriptors (n, d) of all images of ``catalogue``, in its order."""
    return _ordered(*describe_images(network, catalogue, fit=fit, progress=progress))


def describe_views(
    network: nn.Module,
    catalogue: Catalogue,
    views: Sequence[tuple[int, Box | None]],
    *,
    fit: Fit,
    progress: Callable[[int], None],
) -> Tensor:
    """Descriptors (n, d) of parts of images: rows of ``catalogue`` and what is cut out of each."""
    seen, by_row = views_by_row(catalogue, views)
    found = describe_images(network, seen, fit=fit, progress=progress, views=by_row)
    return _ordered(*found)


def views_by_row(
    catalogue: Catalogue, views: Sequence[tuple[int, Box | None]]
) -> tuple[Catalogue, Views]:
    """The images of ``views`` alone, and by row among them the number and box of each view."""
    numbered: dict[int, list[tuple[int, Box | None]]] = {}
    for number, (row, box) in enumerate(views):
        numbered.setdefault(row, []).append((number, box))
    needed, places = np.unique([row for row, _ in views], return_inverse=True)
    inside = dict(zip([row for row, _ in views], places.tolist(), strict=True))
    return catalogue.subset(needed), {inside[row]: some for row, some in numbered.items()}


def _ordered(numbers: NDArray[np.int64], descriptors: Tensor) -> Tensor:
    ordered = torch.empty_like(descriptors)
    ordered[torch.from_numpy(numbers)] = descriptors
    return ordered
