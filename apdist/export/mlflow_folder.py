"""A run's model as a folder of MLflow, the same that `apdist track --register` sends to a registry.

It takes files of pictures, not a graph's pixels, and holds the code that reads them.

Shapes: n images, h x w pixels, k descriptor size.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from apdist.training.tracking.artifacts import MODEL
from apdist.training.tracking.registering import model_parts

if TYPE_CHECKING:
    from apdist.training.run_folder.runs import Run


def write_mlflow(run: Run, folder: Path) -> None:
    """Write the model of ``run`` into an empty ``folder``; no server is asked."""
    from mlflow import pyfunc

    with model_parts(run) as parts:
        pyfunc.save_model(path=str(folder), **parts)


class MlflowModel:
    """The folder's model, loaded as MLflow does it."""

    def __init__(self, folder: Path) -> None:
        # MLflow advises types, of which it would make a schema; its own filter overrides ours.
        with redirect_stderr(io.StringIO()):
            from apdist.training.tracking.served import Describer

        self._model: Any = Describer()
        context: Any = SimpleNamespace(artifacts={MODEL: str(folder / "artifacts" / MODEL)})
        self._model.load_context(context)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe ``pixels`` (n, h, w, 3) as (n, k)."""
        files = [io.BytesIO() for _ in pixels]
        for file, picture in zip(files, pixels, strict=True):
            Image.fromarray(picture).save(file, "PNG", compress_level=1)
        described: NDArray[np.float32] = self._model.predict(
            None, {"image": [file.getvalue() for file in files]}
        )
        return described
