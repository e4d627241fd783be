"""A model in MLflow's registry: pictures to descriptors. MLflow runs this file where it is loaded.

So it is code that a person can read there, and nothing is unpickled. Shapes: n pictures, d
descriptor size.
"""

import base64
import binascii
import io
from itertools import groupby
from typing import Any

import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray
from PIL import Image

from apdist.data.images import ImageError, evaluation_image
from apdist.model.pieces import in_pieces
from apdist.model.pretrained import load_model

COLUMN = "image"
MOST_AT_ONCE = 64


class Describer(PythonModel):
    """Descriptors of pictures, as the run itself makes them."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the network."""
        self.model = load_model(context.artifacts["model"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.network.to(self.device)

    # Without types: of those MLflow would make a schema of its own.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Descriptors (n, d) float32 of the column `image`, in its order.

        A picture is the bytes of a file, the same in base64, or pixels (h, w, 3) or (h, w) uint8.

        Raises:
            MlflowException: there is no such column, or one of them is no picture; a server answers
                with its text.
        """
        del context, params
        if COLUMN not in model_input:
            there = ", ".join(map(str, model_input))
            raise _refused(f"expected pictures in a column {COLUMN!r}, got {there or 'nothing'}")
        pictures = [self._picture(row, cell) for row, cell in enumerate(model_input[COLUMN])]
        parts = []
        for _, same in groupby(pictures, key=lambda picture: picture.shape):
            images = np.stack(list(same))  # (n, 3, h, w)
            parts += [self._described(part) for part in _split(images)]
        return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)

    def _picture(self, row: int, cell: Any) -> NDArray[np.uint8]:
        """One picture as the network sees it, (3, h, w)."""
        try:
            return evaluation_image(_encoded(cell), self.model.fit)
        except ImageError as error:
            raise _refused(f"the picture in row {row} {error}") from error

    def _described(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found = in_pieces(self.model.network, torch.from_numpy(images).to(self.device))
        return found.float().cpu().numpy()


def _refused(text: str) -> MlflowException:
    found: MlflowException = MlflowException.invalid_parameter_value(text)
    return found


def _split(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return np.array_split(images, -(-len(images) // MOST_AT_ONCE))


def _encoded(cell: Any) -> bytes:
    """The bytes of a file with the picture."""
    if isinstance(cell, bytes | bytearray | memoryview):
        return bytes(cell)
    if isinstance(cell, str):
        try:
            return base64.b64decode("".join(cell.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError("is a text, but no base64 of an image's file") from error
    try:
        pixels = np.asarray(cell)
        if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
            raise ValueError(f"of shape {pixels.shape}")
        if pixels.dtype.kind not in "iu" or pixels.min() < 0 or pixels.max() > 255:
            raise ValueError(f"of type {pixels.dtype}")
    except (TypeError, ValueError) as error:
        raise ImageError(
            f"is neither bytes nor base64 nor pixels (h, w, 3) or (h, w) from 0 to 255 ({error})"
        ) from error
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, format="PNG", compress_level=1)
    return file.getvalue()


set_model(Describer())
