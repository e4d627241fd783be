"""What a model's own file says of its pixels."""

import json
from pathlib import Path
from typing import Any

import pytest

from apdist.model.preprocessing import Pixels, read_pixels
from apdist.model.traits import IMAGENET_MEAN, IMAGENET_STD

# As the files of these models have it, in the parts that matter.
DINOV2 = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_normalize": True,
    "image_mean": list(IMAGENET_MEAN),
    "image_std": list(IMAGENET_STD),
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 256},
}
SIGLIP2 = {
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "size": {"height": 224, "width": 224},
}
# Bytes to [-1, 1], then divided by 0.5.
SHIFTED = {
    "rescale_factor": 1 / 127.5,
    "rescale_offset": True,
    "image_mean": 0.0,
    "image_std": 0.5,
    "size": 300,
    "resample": 0,
}


def written(folder: Path, told: Any, name: str = "preprocessor_config.json") -> str:
    (folder / name).write_text(json.dumps(told))
    return str(folder)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (
            DINOV2,
            Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD, side=224, interpolation="bicubic"),
        ),
        (SIGLIP2, Pixels(mean=(0.5,) * 3, std=(0.5,) * 3, side=224, interpolation="bilinear")),
        (SHIFTED, Pixels(mean=(0.5,) * 3, std=(0.25,) * 3, side=300, interpolation="nearest")),
        (
            SIGLIP2 | {"do_normalize": False, "do_rescale": False},
            Pixels(mean=(0.0,) * 3, std=(1 / 255,) * 3, side=224, interpolation="bilinear"),
        ),
        (
            DINOV2 | {"do_center_crop": False},
            Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD, side=256, interpolation="bicubic"),
        ),
    ],
)
def test_pixels_are_as_the_file_says(told: Any, expected: Pixels, tmp_path: Path) -> None:
    found = read_pixels(written(tmp_path, told))
    assert found.mean == pytest.approx(expected.mean)
    assert found.std == pytest.approx(expected.std)
    assert (found.side, found.interpolation) == (expected.side, expected.interpolation)


def test_a_processor_of_pictures_and_texts_holds_that_of_the_pictures(tmp_path: Path) -> None:
    folder = written(tmp_path, {"image_processor": SIGLIP2}, "processor_config.json")
    assert read_pixels(folder).mean == (0.5, 0.5, 0.5)


def test_without_a_file_pixels_are_those_of_the_kind_of_model(tmp_path: Path) -> None:
    pixels = read_pixels(str(tmp_path))
    assert pixels == Pixels()
    assert pixels.of_traits("siglip_vision_model")["mean"] == (0.5, 0.5, 0.5)
    assert pixels.of_traits("dinov2")["std"] == IMAGENET_STD


@pytest.mark.parametrize(
    "told", [DINOV2 | {"image_mean": [1, 2]}, DINOV2 | {"resample": 9}, {"size": "big"}, [1]]
)
def test_a_file_that_cannot_be_understood_is_refused(told: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preprocessor_config.json of it cannot be understood"):
        read_pixels(written(tmp_path, told))
