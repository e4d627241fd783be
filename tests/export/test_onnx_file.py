"""ONNX files: what they hold, and a line with the operator that they cannot."""

import importlib.util
from pathlib import Path

import pytest
import torch

from apdist.export import onnx_file
from apdist.export.onnx_file import OnnxModel, refuse_without_onnx, unknown_operator, write_onnx

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_file.PACKAGES),
    reason="the extra onnx is not installed",
)


class Strange(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(pixels.float().mean(dim=(1, 2)))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "PACKAGES", ("torch", "no_such_package"))
    with pytest.raises(ValueError, match=r"needs no_such_package, .* pip install 'apdist\[onnx\]'"):
        refuse_without_onnx()


def test_the_operator_is_found_among_the_causes() -> None:
    inner = RuntimeError("at %x : call_function[target=torch.ops.aten.amax.default](args = ())")
    outer = RuntimeError("Failed to convert")
    outer.__cause__ = inner
    assert unknown_operator(outer) == "aten.amax.default"
    assert unknown_operator(RuntimeError("disk full")) == ""


@needs_onnx
@pytest.mark.slow
def test_an_operator_that_onnx_lacks_is_named(tmp_path: Path) -> None:
    program = torch.export.export(Strange(), (torch.zeros(2, 4, 4, 3, dtype=torch.uint8),))
    with pytest.raises(ValueError, match=r"torch.onnx has nothing for \S*bessel_j0"):
        write_onnx(program, tmp_path / "it.onnx", {})
    assert not list(tmp_path.iterdir())


@needs_onnx
def test_what_is_no_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "it.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="onnxruntime cannot run .*it.onnx") as it:
        OnnxModel(tmp_path / "it.onnx")
    assert "\n" not in str(it.value)
