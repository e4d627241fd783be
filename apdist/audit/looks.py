"""What every image looks like, small enough to hold all of them: one pass over the shards.

Shapes: n images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.images import ImageError, open_image
from apdist.data.loading.reader import ImageReader, ReadRequest, read_images

SIDE = 64
"""Of the grey thumbnail, in pixels: JPEG artefacts are smaller, what tells two pictures is not."""
COLOUR_SIDE = 16
_READ_TOGETHER = 64


@dataclass(frozen=True)
class Looks:
    """Every image, stretched to a square: 4.6 KB each."""

    grey: NDArray[np.uint8]
    """(n, 64, 64) luminance."""
    colours: NDArray[np.uint8]
    """(n, 2, 16, 16) chrominance: blue and red of YCbCr."""
    shapes: NDArray[np.int64]
    """(n, 2) width and height of the upright image, as the catalogue has them."""
    digests: list[bytes]
    """Hash of each image's bytes; empty where it cannot be used."""
    damaged: dict[int, str] = field(default_factory=dict)
    """Row of each image that cannot be used, and why."""

    def __len__(self) -> int:
        return len(self.grey)

    @property
    def ratios(self) -> NDArray[np.float64]:
        """(n,) width over height."""
        width, height = np.maximum(self.shapes, 1).T.astype(np.float64)
        ratios: NDArray[np.float64] = width / height
        return ratios


def look(
    catalogue: Catalogue,
    *,
    num_threads: int = 2,
    progress: Callable[[int], None] = lambda _: None,
) -> Looks:
    """Look at every image of ``catalogue``, shard after shard, front to back.

    Images that are damaged, or no images, are noted; a shard that is not there is an error.

    Args:
        catalogue: the images.
        num_threads: threads that decode.
        progress: called with the number of images done.
    """
    count = len(catalogue)
    looks = Looks(
        grey=np.zeros((count, SIDE, SIDE), np.uint8),
        colours=np.zeros((count, 2, COLOUR_SIDE, COLOUR_SIDE), np.uint8),
        shapes=np.stack(
            [catalogue.column(name).to_numpy() for name in ("width", "height")], axis=1
        ),
        digests=[b""] * count,
    )
    done = 0
    with ThreadPoolExecutor(num_threads, thread_name_prefix="decoder") as pool:
        for rows, request in _requests(catalogue):
            images = read_images(request)

            def see(place: int, rows: NDArray[np.int64] = rows) -> None:
                _see(looks, int(rows[place]), images[place], request, place)  # noqa: B023

            list(pool.map(see, range(len(rows))))
            done += len(rows)
            progress(done)
    return looks


def _requests(catalogue: Catalogue) -> Iterator[tuple[NDArray[np.int64], ReadRequest]]:
    """Rows that are read together, in the order of their bytes."""
    reader = ImageReader(catalogue)
    order = np.lexsort((reader.columns[1], reader.columns[0]))
    for start in range(0, len(order), _READ_TOGETHER):
        rows = order[start : start + _READ_TOGETHER]
        yield rows, reader.request(rows)


def _see(looks: Looks, row: int, data: memoryview, request: ReadRequest, place: int) -> None:
    try:
        request.check(place, data)
        # Twice the side: a draft of just the side would be blurred by what the JPEG's blocks give.
        image = open_image(data, min_side=2 * SIDE)
    except ImageError as error:
        looks.damaged[row] = str(error)
        return
    looks.digests[row] = hashlib.blake2b(data, digest_size=16).digest()
    small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    luminance, *chrominance = small.convert("YCbCr").split()
    looks.grey[row] = np.asarray(luminance)
    for number, channel in enumerate(chrominance):
        looks.colours[row, number] = np.asarray(channel.reduce(SIDE // COLOUR_SIDE))
