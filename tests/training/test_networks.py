"""The step on every kind of network: the gradient of one graph over the batch, in float64."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.config import ModelConfig
from apdist.loss.listwise import AveragePrecisionLoss, average_precision_loss
from apdist.model.descriptor import DescriptorNet
from apdist.training.step.chunks import own_rows
from apdist.training.step.collectives import Workers
from apdist.training.step.options import StepOptions
from apdist.training.step.randomness import chunk_seed, seeded
from apdist.training.step.step import global_step
from tests.tiny_models import SIDE, save_tiny
from tests.toy import CHUNK_SIZES, SIZE, error_of, gradients
from tests.workers import on_workers

OWN: dict[str, dict[str, Any]] = {
    "GeM per channel": {"gem_per_channel": True},
    "R-MAC": {"pooling": "rmac", "norm_before_linear": True},
    "max": {"pooling": "max"},
    "mean without a linear layer": {"pooling": "mean", "dim": 0},
}
HUB: dict[str, dict[str, Any]] = {
    "vit": {"pooling": "cls+mean"},
    "dinov2_with_registers": {},
    "dinov3_vit": {"pooling": "rmac", "dim": 0},
    "siglip": {},
    "clip": {"pooling": "mean"},
    "swin": {},
    "resnet": {"gem_per_channel": True},
}
# Position embeddings are interpolated in float32, there and back.
INTERPOLATED = {"dinov2": 1e-6}


def built(options: dict[str, Any]) -> DescriptorNet:
    torch.manual_seed(0)
    return DescriptorNet(ModelConfig(**{"dim": 6, **options})).double().train()


def images_and_labels(side: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(SIZE, 3, side, side, dtype=torch.float64, generator=generator)
    return images, torch.arange(SIZE) % 7


def one_graph(options: dict[str, Any], side: int, chunk_size: int) -> dict[str, Tensor]:
    """Of plain autograd, with the random state of each chunk: DINOv3 rescales positions by it."""
    network, (images, labels) = built(options), images_and_labels(side)
    descriptors = []
    for number, chunk in enumerate(images.split(chunk_size)):
        with seeded(chunk_seed(0, 0, number), images.device):
            descriptors.append(network(chunk))
    average_precision_loss(torch.cat(descriptors), labels, backend="dense").backward()
    return gradients(network)


def stepped(cases: list[dict[str, Any]], side: int) -> list[list[dict[str, Tensor]]]:
    """Gradients of each network with each chunk size."""
    images, labels = images_and_labels(side)
    workers, found = Workers(), []
    for options in cases:
        of_sizes, network = [], built(options)
        for size in CHUNK_SIZES:
            rows = own_rows(SIZE, size, workers.rank, workers.size)
            step = StepOptions(loss=AveragePrecisionLoss(), chunk_size=size, seed=0)
            network.zero_grad()
            global_step(network, images[rows], labels[rows], step, step=0)
            of_sizes.append(gradients(network))
        found.append(of_sizes)
    return found


def check(num_workers: int, cases: list[dict[str, Any]], side: int, tolerance: float) -> None:
    answers = on_workers(num_workers, stepped, cases, side)
    for number, options in enumerate(cases):
        for place, size in enumerate(CHUNK_SIZES):
            expected = one_graph(options, side, size)
            assert all(bool(gradient.any()) for gradient in expected.values())
            errors = [error_of(answer[number][place], expected) for answer in answers]
            assert max(errors) < tolerance, (options, size, errors)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_poolings_have_the_gradient_of_one_graph(num_workers: int) -> None:
    check(num_workers, list(OWN.values()), 32, 1e-10)


# Each worker imports transformers, for seconds.
@pytest.mark.parametrize(
    "num_workers", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3))]
)
@pytest.mark.filterwarnings("ignore")
def test_models_of_transformers_have_the_gradient_of_one_graph(
    num_workers: int, tmp_path: Path
) -> None:
    cases = []
    for kind, options in HUB.items():
        save_tiny(kind, tmp_path / kind)
        cases.append({"backbone": f"hub:{tmp_path / kind}", **options})
    check(num_workers, cases, SIDE, 1e-10)


@pytest.mark.filterwarnings("ignore")
def test_interpolated_positions_have_it_up_to_their_own_rounding(tmp_path: Path) -> None:
    for kind, tolerance in INTERPOLATED.items():
        save_tiny(kind, tmp_path / kind)
        check(1, [{"backbone": f"hub:{tmp_path / kind}"}], 24, tolerance)
