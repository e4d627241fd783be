"""Descriptors of a split: in its order, whatever the order of the shards, in evaluation mode."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from apdist.data.images import Fit, evaluation_image
from apdist.data.preparing.shards import Encoded, Item, write_shards
from apdist.model import pieces
from apdist.retrieval import describe
from apdist.retrieval.describe import (
    describe_batches,
    describe_images,
    describe_split,
    describe_views,
)
from tests.pictures import SIDE, encoded, picture, refuse, write_small_set

FIT = Fit(side=SIDE)


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
    found = describe_split(network, images, fit=FIT, progress=done.append)
    assert (network.training, network.modes) == (True, {False})
    assert not found.requires_grad
    assert done == sorted(done)
    assert done[-1] == len(images) == len(found)
    for row, source in enumerate(images.table["source"].to_pylist()):
        label, number = source.removeprefix("class ").removesuffix(".png").split("/picture ")
        pixels = evaluation_image(encoded(picture(int(label), int(number))), FIT)
        expected = torch.from_numpy(pixels).float().mean(dim=(-2, -1))
        torch.testing.assert_close(found[row], expected)


def test_parts_of_images_are_described_in_the_order_that_they_are_asked_for(
    tmp_path: Path,
) -> None:
    images = write_small_set(tmp_path).select("test")
    views = [(20, None), (3, (2.0, 4.0, 20.0, 22.0)), (20, (0.0, 0.0, 9.0, 9.0)), (3, None)]
    found = describe_views(Mean(), images, views, fit=FIT, progress=lambda _: None)
    for (row, box), descriptor in zip(views, found, strict=True):
        source = images.table["source"][row].as_py()
        label, number = source.removeprefix("class ").removesuffix(".png").split("/picture ")
        pixels = evaluation_image(encoded(picture(int(label), int(number))), FIT, box)
        torch.testing.assert_close(descriptor, torch.from_numpy(pixels).float().mean(dim=(-2, -1)))


def test_batches_are_described_in_evaluation_mode_without_a_graph() -> None:
    network, images = Mean(), torch.randint(256, (3, 3, 5, 5), dtype=torch.uint8)
    batches = ((np.array([row]), images[row : row + 1]) for row in (2, 0))
    found = list(describe_batches(network, batches))
    assert (network.training, network.modes) == (True, {False})
    for (rows, descriptors), row in zip(found, (2, 0), strict=True):
        assert rows.tolist() == [row]
        assert not descriptors.requires_grad
        torch.testing.assert_close(descriptors, images[[row]].float().mean(dim=(-2, -1)))


def test_what_a_device_is_asked_for_in_parts_is_what_it_is_asked_for_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_small_set(tmp_path).select("test")
    rows, whole = describe_images(Mean(), images, fit=FIT, batch_size=5)
    monkeypatch.setattr(describe, "_LONGEST_WAIT_BYTES", 2 * 5 * 3 * 4)  # of two batches
    again, parts = describe_images(Mean(), images, fit=FIT, batch_size=5)
    assert parts.tolist() == whole.tolist()
    assert again.tolist() == rows.tolist()


def test_images_are_resized_with_the_filter_of_the_network(tmp_path: Path) -> None:
    images = write_small_set(tmp_path).select("test")
    nearest, bicubic = (
        describe_split(Mean(), images, fit=Fit(side=9, interpolation=name), progress=lambda _: None)
        for name in ("nearest", "bicubic")
    )
    assert not torch.allclose(nearest, bicubic)
    source = images.table["source"].to_pylist()[0]
    label, number = source.removeprefix("class ").removesuffix(".png").split("/picture ")
    pixels = evaluation_image(
        encoded(picture(int(label), int(number))), Fit(side=9, interpolation="nearest")
    )
    torch.testing.assert_close(nearest[0], torch.from_numpy(pixels).float().mean(dim=(-2, -1)))


class Others:
    """Workers that have images for some passes more, or fewer, than this one."""

    def __init__(self, num_passes: int) -> None:
        self.left = num_passes
        self.asked: list[bool] = []

    def __call__(self, has_images: bool) -> bool:
        self.asked.append(has_images)
        self.left -= 1
        return has_images or self.left >= 0


def test_workers_that_wait_for_each_other_make_equally_many_passes(tmp_path: Path) -> None:
    images = write_small_set(tmp_path).select("test")
    (shard, *others) = sorted(set(images.table["shard"].to_pylist()))
    assert others
    for passes_of_others in (0, 20):
        network, waiting = Mean(), Others(passes_of_others)
        rows, descriptors = describe_images(
            network, images, fit=FIT, batch_size=4, shards=[shard], go_on=waiting
        )
        assert np.unique(images.table["shard"].to_numpy()[rows]).tolist() == [shard]
        assert len(descriptors) == len(rows)
        own = -(-len(rows) // 4)
        num_passes = max(own, passes_of_others)
        assert len(network.sizes) == num_passes
        assert network.sizes[own:] == [1] * (num_passes - own)
        assert sum(network.sizes[:own]) == len(rows)
        assert waiting.asked == [True] * own + [False] * (num_passes - own + 1)


def test_workers_meet_before_every_pass_of_a_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_small_set(tmp_path).select("test")
    network, waiting = Mean(), Others(0)
    whole = describe_images(network, images, fit=FIT, batch_size=4)[1]
    network.sizes.clear()
    monkeypatch.setattr(pieces, "_PIXELS", 3 * FIT.side**2)
    found = describe_images(network, images, fit=FIT, batch_size=4, go_on=waiting)[1]
    assert set(network.sizes[:-1]) == {3, 1}
    assert waiting.asked == [True] * len(network.sizes) + [False]
    assert found.tolist() == whole.tolist()


def test_a_worker_without_shards_still_takes_part_and_describes_nothing(tmp_path: Path) -> None:
    images = write_small_set(tmp_path).select("test")
    network = Mean()
    rows, descriptors = describe_images(network, images, fit=FIT, shards=[], go_on=Others(2))
    assert (len(rows), len(descriptors), network.sizes) == (0, 0, [1, 1])
    assert network.training


def test_images_of_any_shape_are_described_as_each_alone(tmp_path: Path) -> None:
    shapes = [(24, 24), (24, 16), (16, 24), (24, 23), (9, 24)]
    pictures = [picture(n % 3, n).resize(shapes[n % 5]) for n in range(30)]
    items = [Item(str(n), n % 3, f"class {n % 3}", "test", content=n) for n in range(len(pictures))]
    images = write_shards(
        items,
        lambda n: Encoded(encoded(pictures[n]), "png", *pictures[n].size),
        str(tmp_path),
        shard_bytes=20_000,
        on_refused=refuse,
    )
    fit, network = Fit(side=32, resize="longest", multiple=4), Mean()
    found = describe_split(network, images, fit=fit, progress=lambda _: None)
    for row, source in enumerate(images.table["source"].to_pylist()):
        alone = torch.from_numpy(evaluation_image(encoded(pictures[int(source)]), fit))
        torch.testing.assert_close(found[row], alone.float().mean(dim=(-2, -1)))
    assert sorted(network.sizes) == [6, 6, 6, 12]  # 32 x 31 and 32 x 32 are one shape, in fours


def test_under_bf16_the_network_rounds_and_its_descriptors_are_float32(tmp_path: Path) -> None:
    images = write_small_set(tmp_path)

    class Linear(Mean):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images / 255) @ (torch.eye(3) * 0.7)

    exact, rounded = (
        describe_images(Linear(), images, fit=FIT, bf16=bf16)[1] for bf16 in (False, True)
    )
    assert rounded.dtype == torch.float32
    assert not torch.equal(exact, rounded)
    torch.testing.assert_close(exact, rounded, rtol=0.01, atol=0.01)
