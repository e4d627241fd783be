"""What stands in files that are handed over: what the model is, what it takes and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apdist.data.images import Fit
from apdist.export.parity import Parity
from apdist.model.descriptor import DescriptorNet

DESCRIPTION = "export.json"
"""Beside an exported network."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """An exported network, in words and numbers."""

    model_id: str
    """Of what makes its descriptors: tables of `apdist extract` and indexes name it too."""
    network: DescriptorNet
    fit: Fit
    """How images are brought to the network."""
    dim: int
    """Numbers of a descriptor."""
    describing: dict[str, Any]
    """Options beside the run's own way, by name; empty: none."""
    shape: tuple[int, ...] = ()
    """Height and width of all images; empty: any."""

    def facts(self, parity: Parity | None = None) -> dict[str, Any]:
        """The same, as JSON has it, with how well it agrees where that is measured."""
        height, width = self.shape or ("height", "width")
        found = {
            "model_id": self.model_id,
            "input": {
                "name": "pixels",
                "shape": ["n", height, width, 3],
                "type": "uint8",
                "means": "red, green, blue, sRGB, upright, of the whole image",
            },
            "output": {
                "name": "descriptors",
                "shape": ["n", self.dim],
                "type": "float32",
                "means": "unit length: their inner product is the cosine similarity",
            },
            "inside": self.inside,
            "describing": self.describing,
        }
        if parity is not None:
            found["parity"] = {
                "images": f"{parity.num_images} {parity.images}",
                "least_cosine_of_pixels": round(parity.of_pixels, 7),
                "least_cosine_of_files": round(parity.of_files, 7),
            }
        return found

    @property
    def inside(self) -> list[str]:
        """What the graph does, step by step."""
        config, scales = self.network.config, self.describing.get("scales", [1.0])
        steps = [
            resizing(self.fit),
            f"normalise by mean {_list(self.network.traits.mean)}, "
            f"deviation {_list(self.network.traits.std)} of pixels in [0, 1]",
        ]
        if list(scales) != [1.0]:
            steps.append(f"describe at scales {_list(scales)}, pool by their power mean")
        steps += [config.backbone, f"pooling {self.network.pooling_name}"]
        if config.dim:
            steps.append(f"linear layer to {config.dim}")
        if self.describing.get("whiten"):
            steps.append(f"whitening {self.describing['whiten']!r}")
        if kept := self.describing.get("dim"):
            steps.append(f"the first {kept} numbers")
        return [*steps, "L2 norm"]

    def for_metadata(self) -> dict[str, str]:
        """What a file of ONNX keeps."""
        return {
            "apdist.model_id": self.model_id,
            "apdist.inside": "; ".join(self.inside),
            "apdist.metric": "cosine",
        }


def resizing(fit: Fit) -> str:
    """How images are brought to a network, in words."""
    by = f"by Pillow's {fit.interpolation}"
    if fit.resize == "crop":
        return f"the square in the middle to {fit.side} x {fit.side} pixels {by}"
    only = "" if fit.resize == "longest" else ", smaller images as they are"
    sides = f", sides to multiples of {fit.multiple}" if fit.multiple > 1 else ""
    return f"the whole image, its longer side to {fit.side} pixels {by}{only}{sides}"


def _list(values: Any) -> str:
    return " ".join(f"{value:g}" for value in values)
