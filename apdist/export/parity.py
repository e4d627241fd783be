"""How well an exported network agrees with its run, on images: nothing is handed over unmeasured.

Shapes: n images, h x w pixels, k descriptor size.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from apdist.data.images import evaluation_image, open_image
from apdist.model.pretrained import TrainedModel

LEAST_COSINE = 0.9999
"""Of the same pixels; an export that agrees less is a mistake."""
Exported: TypeAlias = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pixels (n, h, w, 3) to descriptors (n, k)."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Cosine similarity of the descriptors of an exported network and of its run."""

    num_images: int
    images: str
    """Which they are, in words."""
    of_pixels: float
    """Least, where both are given the same pixels."""
    of_files: float
    """Least, where the run reads the files: of a large JPEG it decodes a fraction of the size."""

    def __str__(self) -> str:
        """A line."""
        return (
            f"cosine to the run's descriptors at least {self.of_pixels:.6f} of the same pixels and "
            f"{self.of_files:.6f} of files, on {self.num_images} {self.images}"
        )


def parity_of(
    exported: Exported,
    model: TrainedModel,
    files: Sequence[bytes],
    images: str,
    shape: tuple[int, ...] = (),
) -> Parity:
    """Compare ``exported`` with ``model`` on encoded images, one by one.

    Args:
        exported: to be measured.
        model: of the run, with its recipe.
        files: n encoded images.
        images: which they are, in words.
        shape: height and width that each is brought to first, where the graph takes no other.

    Raises:
        ValueError: they do not agree.
    """
    of_pixels, of_files = [], []
    for file in files:
        image, decoded = open_image(file), file
        if shape:
            image = image.resize((shape[1], shape[0]))
            decoded = stored(image)
        found = exported(np.asarray(image)[None])[0]
        of_pixels.append(cosine(found, described(model, stored(image))))
        of_files.append(cosine(found, described(model, decoded)))
    result = Parity(
        num_images=len(files),
        images=images,
        of_pixels=min(of_pixels),
        of_files=min(of_files),
    )
    if not result.of_pixels >= LEAST_COSINE:  # NaN as well
        raise ValueError(
            f"the export does not agree with the run: {result}; expected {LEAST_COSINE} of the "
            "same pixels, so it is not kept; use --to torch, or report it with the run's model.json"
        )
    return result


def drawn_images(num_images: int, side: int) -> list[bytes]:
    """Encoded pictures for where there are no others: smooth ones with edges, of several shapes."""
    files = []
    for number in range(num_images):
        random = np.random.default_rng(number)
        coarse = Image.fromarray(random.integers(0, 256, (5, 4, 3), dtype=np.uint8))
        size = (side + 17 * number, max(8, 2 * side - 13 * number))
        picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).copy()
        picture[size[1] // 3 : size[1] // 2, size[0] // 4 :] //= 2
        files.append(stored(Image.fromarray(picture)))
    return files


def described(model: TrainedModel, file: bytes) -> NDArray[np.float32]:
    """The run's descriptor (k,) of an encoded image."""
    seen = torch.from_numpy(evaluation_image(file, model.fit))[None]
    with torch.no_grad():
        found: NDArray[np.float32] = model.network(seen)[0].float().numpy()
    return found


def stored(image: Image.Image) -> bytes:
    """An RGB image encoded without loss, so that it is decoded at its full size."""
    target = io.BytesIO()
    # Of the pixels alone: a profile of colours, applied on decoding, would be applied again.
    Image.fromarray(np.asarray(image)).save(target, "PNG", compress_level=1)
    return target.getvalue()


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Cosine similarity of two descriptors (k,)."""
    wide = one.astype(np.float64), other.astype(np.float64)
    return float(wide[0] @ wide[1] / np.linalg.norm(wide[0]) / np.linalg.norm(wide[1]))
