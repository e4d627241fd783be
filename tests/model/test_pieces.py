"""A CPU gets few pixels at a time; what is described does not depend on it."""

from __future__ import annotations

import pytest
import torch

from apdist.config import ModelConfig
from apdist.model.descriptor import DescriptorNet
from apdist.model.pieces import fastest_size, in_pieces, pieces


@pytest.mark.parametrize(
    ("side", "sizes"), [(224, [8, 8, 4]), (64, [20]), (448, [2] * 10), (1024, [1] * 20)]
)
def test_pieces_are_of_as_many_pixels_as_stay_in_the_cache(side: int, sizes: list[int]) -> None:
    images = torch.empty(20, 3, side, side, dtype=torch.uint8)
    assert [len(piece) for piece in pieces(images)] == sizes
    assert fastest_size(side, 4 * side) == max(1, fastest_size(side, side) // 4)


def test_another_device_gets_the_whole_batch() -> None:
    (whole,) = pieces(torch.empty(20, 3, 448, 448, dtype=torch.uint8, device="meta"))
    assert len(whole) == 20


def test_descriptors_are_those_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    network = DescriptorNet(ModelConfig(backbone="small", dim=8)).eval()
    images = torch.randint(0, 256, (5, 3, 448, 448), dtype=torch.uint8)

    sizes = list[int]()
    network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    with torch.no_grad():
        torch.testing.assert_close(in_pieces(network, images), network(images))
    assert sizes == [2, 2, 1, 5]
