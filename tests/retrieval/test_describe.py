"""Descriptors of a split: in its order, whatever the order of the shards, in evaluation mode."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from apdist.data.images import evaluation_image
from apdist.retrieval.describe import describe_images, describe_split, num_batches
from tests.pictures import SIDE, encoded, picture, write_small_set


class Mean(nn.Module):
    """(b, 3, h, w) to their means (b, 3); counts what goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.sizes: list[int] = []
        self.modes: set[bool] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        self.modes.add(self.training)
        return images.float().mean(dim=(-2, -1)) * self.scale


def test_descriptors_come_in_the_order_of_the_images_and_the_mode_stays(tmp_path: Path) -> None:
    images = write_small_set(tmp_path).select("test")
    network, done = Mean(), list[int]()
    assert network.training
    found = describe_split(network, images, image_size=SIDE, progress=done.append)
    assert (network.training, network.modes) == (True, {False})
    assert not found.requires_grad
    assert done == sorted(done)
    assert done[-1] == len(images) == len(found)
    for row, source in enumerate(images.table["source"].to_pylist()):
        label, number = source.removeprefix("class ").removesuffix(".png").split("/picture ")
        pixels = evaluation_image(encoded(picture(int(label), int(number))), SIDE)
        expected = torch.from_numpy(pixels).float().mean(dim=(-2, -1))
        torch.testing.assert_close(found[row], expected)


def test_images_are_resized_with_the_filter_of_the_network(tmp_path: Path) -> None:
    images = write_small_set(tmp_path).select("test")
    nearest, bicubic = (
        describe_split(Mean(), images, image_size=9, interpolation=name, progress=lambda _: None)
        for name in ("nearest", "bicubic")
    )
    assert not torch.allclose(nearest, bicubic)
    source = images.table["source"].to_pylist()[0]
    label, number = source.removeprefix("class ").removesuffix(".png").split("/picture ")
    pixels = evaluation_image(encoded(picture(int(label), int(number))), 9, "nearest")
    torch.testing.assert_close(nearest[0], torch.from_numpy(pixels).float().mean(dim=(-2, -1)))


def test_workers_that_wait_for_each_other_make_equally_many_passes(tmp_path: Path) -> None:
    images = write_small_set(tmp_path).select("test")
    (shard, *others) = sorted(set(images.table["shard"].to_pylist()))
    assert others
    network = Mean()
    rows, descriptors = describe_images(
        network, images, image_size=SIDE, batch_size=4, shards=[shard], min_passes=20
    )
    assert np.unique(images.table["shard"].to_numpy()[rows]).tolist() == [shard]
    assert len(descriptors) == len(rows)
    assert len(network.sizes) == 20
    own = num_batches(images, [shard], 4)
    assert network.sizes[own:] == [1] * (20 - own)
    assert sum(network.sizes[:own]) == len(rows)


def test_a_worker_without_shards_still_takes_part_and_describes_nothing(tmp_path: Path) -> None:
    images = write_small_set(tmp_path).select("test")
    network = Mean()
    options = {"image_size": SIDE, "shards": [], "min_passes": 2}
    rows, descriptors = describe_images(network, images, **options)
    assert (len(rows), len(descriptors), network.sizes) == (0, 0, [1, 1])
    assert network.training
    assert num_batches(images, [], 4) == 0


def test_under_bf16_the_network_rounds_and_its_descriptors_are_float32(tmp_path: Path) -> None:
    images = write_small_set(tmp_path)

    class Linear(Mean):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images / 255) @ (torch.eye(3) * 0.7)

    exact, rounded = (
        describe_images(Linear(), images, image_size=SIDE, bf16=bf16)[1] for bf16 in (False, True)
    )
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.01, atol=0.01)
