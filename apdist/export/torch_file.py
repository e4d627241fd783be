"""A traced network as a file of torch.export, and such files run.

Shapes: n images, h x w pixels, k descriptor size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from apdist.export.tracing import quiet

NAME = "model.pt2"
ABOUT = "apdist.json"
"""Name of the facts among the extra files of the archive."""


def write_program(program: ExportedProgram, path: Path, about: dict[str, Any]) -> None:
    """Write ``program`` to ``path`` with what it is."""
    with quiet():
        torch.export.save(program, path, extra_files={ABOUT: json.dumps(about)})


class TorchModel:
    """A file of torch.export, run on the CPU."""

    def __init__(self, path: Path) -> None:
        with quiet():
            self._module = torch.export.load(path).module()

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe ``pixels`` (n, h, w, 3) as (n, k)."""
        # A copy: arrays of Pillow cannot be written to, and torch warns of that.
        with torch.no_grad():
            described: NDArray[np.float32] = self._module(torch.from_numpy(pixels.copy())).numpy()
        return described
