"""Pictures as a person gives them to descriptors: batch by batch, while the next ones are decoded.

Shapes: n pictures, m of a part that could be read, d descriptor size. Images are (3, h, w) uint8.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apdist.data.given_images import Given, numbered, one_by_one, seen
from apdist.data.images import Fit, ImageError
from apdist.data.storage import StorageError
from apdist.model.pieces import in_pieces

BATCH_SIZE = 64
"""Pictures at once; twice as many are in memory."""
NUM_THREADS = 8
"""That read and decode: a server is waited for, so they are more than there are cores."""
_Waiting: TypeAlias = "deque[tuple[int, str, Future[NDArray[np.uint8]]]]"


@dataclass(frozen=True)
class Part:
    """Some pictures one after the other, and their descriptors."""

    descriptors: Tensor
    """(m, d) on the CPU, of those that could be read."""
    numbers: list[int]
    """(m,) which of the pictures they are of, in the order that they were given."""
    names: list[str]
    """(m,) names of the pictures that could be read."""
    unread: list[tuple[str, str]] = field(default_factory=list)
    """Names of those that could not be read, and why."""

    @property
    def num_given(self) -> int:
        """Pictures that it was made of."""
        return len(self.numbers) + len(self.unread)


def described_parts(
    network: nn.Module,
    fit: Fit,
    images: Given | Iterable[Given],
    *,
    batch_size: int = BATCH_SIZE,
    skip_unreadable: bool = False,
) -> Generator[Part, None, None]:
    """Describe ``images`` in their order; the network's mode is left as it was found.

    Args:
        network: maps (b, 3, h, w) uint8 to descriptors (b, d).
        fit: how pictures are brought to it.
        images: one or many; of many no more than two batches are in memory.
        batch_size: pictures at once.
        skip_unreadable: whether those that cannot be read are passed over and named.

    Raises:
        ValueError: a picture is none, or cannot be read; the message names it.
    """
    waiting: _Waiting = deque()
    pool = ThreadPoolExecutor(NUM_THREADS, thread_name_prefix="decoder")
    try:
        for number, name, one in numbered(one_by_one(images)):
            waiting.append((number, name, pool.submit(seen, one, fit)))
            if len(waiting) == 2 * batch_size:
                yield _part(network, waiting, batch_size, skip_unreadable)
        while waiting:
            yield _part(network, waiting, batch_size, skip_unreadable)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def describe_given(
    network: nn.Module, fit: Fit, images: Given | Iterable[Given], *, batch_size: int = BATCH_SIZE
) -> Tensor:
    """Descriptors (n, d) of ``images``; the arguments are those of `described_parts`.

    Raises:
        ValueError: there are none, or one is none or cannot be read.
    """
    with closing(described_parts(network, fit, images, batch_size=batch_size)) as parts:
        found = [part.descriptors for part in parts]
    if not found:
        raise ValueError("expected one picture or more, got none")
    return torch.cat(found)


def _part(network: nn.Module, waiting: _Waiting, size: int, skip_unreadable: bool) -> Part:
    """The first ``size`` of ``waiting``, taken from there."""
    images, numbers, names = list[NDArray[np.uint8]](), list[int](), list[str]()
    unread = list[tuple[str, str]]()
    for number, name, future in [waiting.popleft() for _ in range(min(size, len(waiting)))]:
        try:
            images.append(future.result())
        except (ImageError, StorageError, OSError) as error:
            reason = _without_name(str(error), name)
            if not skip_unreadable:
                raise ValueError(f"{name} {reason}") from error
            unread.append((name, reason))
            continue
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        numbers.append(number)
        names.append(name)
    return Part(describe_seen(network, images), numbers, names, unread)


def _without_name(told: str, name: str) -> str:
    """What is to stand behind the name of a picture, which some errors begin with."""
    if told.startswith(f"{name}: "):
        return f"cannot be read: {told.removeprefix(f'{name}: ')}"
    return told.removeprefix(f"{name} ")


def describe_seen(network: nn.Module, images: list[NDArray[np.uint8]]) -> Tensor:
    """Descriptors (m, d), of images of one shape with one pass through the network."""
    if not images:
        return torch.empty(0, 0)
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for number, image in enumerate(images):
        by_shape.setdefault(image.shape, []).append(number)
    device, was_training = next(network.parameters()).device, network.training
    network.eval()
    try:
        order, found = list[int](), list[Tensor]()
        for numbers in by_shape.values():
            batch = torch.from_numpy(np.stack([images[number] for number in numbers]))
            with torch.no_grad():
                found.append(in_pieces(network, batch.to(device)).float().cpu())
            order += numbers
    finally:
        network.train(was_training)
    descriptors = torch.cat(found)
    return descriptors[torch.tensor(order).argsort()]
