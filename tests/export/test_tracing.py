"""What torch.export can hold, and a line where it cannot."""

from pathlib import Path

import numpy as np
import pytest
import torch

from apdist.config import Config, override
from apdist.data.images import Fit
from apdist.export.graph import PixelsToDescriptors
from apdist.export.parity import drawn_images, parity_of
from apdist.export.torch_file import TorchModel, write_program
from apdist.export.tracing import refuse_shape, traced
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import TrainedModel
from apdist.retrieval.recipe import Recipe

RMAC = {"model.pooling": "rmac"}


def graph_of(fit: Fit, options: dict[str, object] | None = None) -> PixelsToDescriptors:
    torch.manual_seed(0)
    network = DescriptorNet(override(Config(), {"model.dim": 8, **(options or {})}).model)
    return PixelsToDescriptors(network, fit, Recipe()).eval()


@pytest.mark.parametrize("shape", [(0, 5), (3,), (1, 2, 3), (4, 40_000), (-1, 5)])
def test_a_shape_is_height_and_width(shape: tuple[int, ...]) -> None:
    refuse_shape(())
    refuse_shape((480, 640))
    with pytest.raises(ValueError, match="--shape: expected height and width"):
        refuse_shape(shape)


@pytest.mark.slow
def test_a_network_that_looks_at_sizes_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = graph_of(Fit(side=32))

    def forward(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, : int(images.sum())]  # a size that pixels decide

    monkeypatch.setattr(graph.network, "forward", forward)
    with pytest.raises(ValueError, match=r"torch.export cannot hold small .*; fix the shape") as it:
        traced(graph)
    assert "\n" not in str(it.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fit", "options", "shape"),
    [
        (Fit(side=32, resize="shrink"), {}, ()),
        (Fit(side=64, resize="longest", multiple=8), {"model.backbone": "resnet18"}, ()),
        (Fit(side=64, resize="longest"), RMAC, (50, 70)),
    ],
    ids=["any shape", "resnet", "a shape"],
)
def test_programs_describe_batches_of_any_size(
    fit: Fit, options: dict[str, object], shape: tuple[int, ...], tmp_path: Path
) -> None:
    graph = graph_of(fit, options)
    write_program(traced(graph, shape), tmp_path / "it.pt2", {"a": 1})
    found = TorchModel(tmp_path / "it.pt2")
    model = TrainedModel(network=graph.network, fit=fit, model_id="it")
    assert parity_of(found, model, drawn_images(4, 40), "pictures", shape).of_pixels > 0.9999
    height, width = shape or (33, 71)
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    together = found(pixels)
    np.testing.assert_allclose(
        together, np.concatenate([found(p[None]) for p in pixels]), atol=1e-5
    )


@pytest.mark.slow
def test_regions_need_a_shape() -> None:
    with pytest.raises(ValueError, match="cannot hold small with pooling rmac .* --shape HEIGHT"):
        traced(graph_of(Fit(side=64, resize="longest"), RMAC))
