"""Pictures as they lie in a folder, on a disk or in object storage, without shards.

Shapes: b images of h x w pixels. Images are (b, 3, h, w) uint8.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from apdist.data import storage
from apdist.data.images import Fit, ImageError, evaluation_image
from apdist.data.loading.sequential import ByShape
from apdist.data.preparing.folder import pictures_below
from apdist.data.preparing.kinds import PICTURES, extension, hidden_kind, no_picture
from apdist.data.preparing.tally import Tally
from apdist.data.storage.local import path_hint
from apdist.data.text import shown_name


@dataclass(frozen=True)
class Picture:
    """A file that promises a picture."""

    key: str
    """Its path below the folder, as text."""
    uri: str
    """Where it is read."""

    @property
    def folder(self) -> str:
        """Name of the folder that it lies in, below the one that was looked through; or empty."""
        return self.key.rpartition("/")[0].rpartition("/")[2]


def find_pictures(root: str, tally: Tally) -> list[Picture]:
    """All pictures in the folder or under the prefix ``root``, in the order of their keys.

    Args:
        root: local, or s3://BUCKET/PREFIX; all folders below it are looked through.
        tally: takes in what is passed over.

    Raises:
        ValueError: there is no such folder, or no picture in it.
    """
    path = storage.local_path(root)
    if path is None:
        names = list(_below(root, "", tally))
    elif path.is_dir():
        names, _ = pictures_below(path, tally)
    else:
        what = (
            "is no folder" if path.exists() else f"does not exist{path_hint(path) or '; check it'}"
        )
        raise ValueError(f"{root} {what}; expected a folder of pictures")
    if not names:
        raise ValueError(f"{root} holds no picture; expected .jpg, .png or others, in any folders")
    found = [Picture(shown_name(name), storage.join(root, name)) for name in names]
    return sorted(found, key=lambda picture: picture.key)


def _below(root: str, folder: str, tally: Tally) -> Iterator[str]:
    """Names below ``root``, which cannot be looked into as on a disk: by extension alone."""
    here = storage.join(root, folder) if folder else root
    for name in storage.list_files(here):
        kind = hidden_kind(name)
        if not kind and PICTURES.fullmatch(extension(name)):
            yield f"{folder}{name}"
        elif name:
            tally.add(kind or no_picture(name), f"{folder}{name}")
    for name in storage.list_folders(here):
        if kind := hidden_kind(name):
            tally.add(kind, f"{folder}{name}")
        else:
            yield from _below(root, f"{folder}{name}/", tally)


def picture_batches(
    pictures: Sequence[Picture],
    *,
    fit: Fit,
    batch_size: int = 256,
    num_threads: int = 4,
    refused: Callable[[Picture, str], None],
    num_bytes: NDArray[np.int64],
) -> Generator[tuple[NDArray[np.int64], Tensor], None, None]:
    """Rows (b,) of ``pictures`` and images (b, 3, h, w), of one shape in a batch.

    Args:
        pictures: to be read.
        fit: how they are resized.
        batch_size: most images at once.
        num_threads: threads that read and decode.
        refused: told of a picture that cannot be read, and why; it is left out.
        num_bytes: (n,) takes the size of each picture's file.
    """
    waiting = ByShape(batch_size)
    decoding: deque[tuple[int, Future[NDArray[np.uint8] | str]]] = deque()

    def read(row: int) -> NDArray[np.uint8] | str:
        try:
            data = _bytes(pictures[row].uri)
            num_bytes[row] = len(data)
            return evaluation_image(data, fit)
        except ImageError as error:
            return str(error)

    def taken() -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        row, future = decoding.popleft()
        found = future.result()
        if isinstance(found, str):
            refused(pictures[row], found)
        else:
            yield from waiting.add(row, found)

    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="decoder")
    try:
        for row in range(len(pictures)):
            decoding.append((row, pool.submit(read, row)))
            if len(decoding) == batch_size:
                yield from taken()
        while decoding:
            yield from taken()
        yield from waiting.rest()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _bytes(uri: str) -> bytes:
    """The file's bytes; one on a disk that cannot be read is a picture that cannot."""
    path = storage.local_path(uri)
    if path is None:
        return storage.read_bytes(uri)
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot be read ({(error.strerror or str(error)).lower()})") from error
