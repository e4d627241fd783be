"""A file of torch.export keeps what it is beside the program."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from apdist.export.torch_file import ABOUT, TorchModel, write_program


class Mean(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().mean(dim=(1, 2))


@pytest.mark.slow
def test_what_was_written_is_read(tmp_path: Path) -> None:
    program = torch.export.export(Mean(), (torch.zeros(1, 2, 2, 3, dtype=torch.uint8),))
    write_program(program, tmp_path / "it.pt2", {"model_id": "abc"})
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    pixels.setflags(write=False)  # as those of an image of Pillow
    assert TorchModel(tmp_path / "it.pt2")(pixels).tolist() == [[4.5, 5.5, 6.5]]
    extra = {ABOUT: ""}
    torch.export.load(tmp_path / "it.pt2", extra_files=extra)
    assert json.loads(extra[ABOUT]) == {"model_id": "abc"}
