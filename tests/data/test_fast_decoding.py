"""What the fast decoder makes of an image is what Pillow makes of it, to within rounding."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from apdist.config import AugmentConfig
from apdist.data import fast_decoding
from apdist.data.augmentation import draw, training_image
from apdist.data.fast_decoding import fill_fast
from apdist.data.images import ORIENTATION_TAG, ImageError
from tests.data.test_pixels import RED_AND_BLUE_SWAPPED
from tests.pictures import encoded, picture

SIDE = 32
ROUNDING = 3
"""Pillow rounds down when it warps, colours may then double that, and both round once more."""
STILL = AugmentConfig(min_scale=1, rotation_degrees=0, colour_jitter=0)
WILD = AugmentConfig(
    min_scale=0.3, max_scale=1.5, rotation_degrees=180, colour_jitter=0.4, flip_probability=0.5
)


def framed(width: int, height: int, rim: int = 20) -> Image.Image:
    """A picture in a wide frame of one colour: what is beyond an image is of that colour, too."""
    image = Image.new("RGB", (width, height), (90, 120, 60))
    inner = picture(2, 1, side=64).resize((width - 2 * rim, height - 2 * rim))
    image.paste(inner, (rim, rim))
    return image


def jpeg(image: Image.Image, orientation: int = 1, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return encoded(image, "JPEG", **{"quality": 95, "exif": exif.tobytes(), **options})


def fast(data: bytes, augment: AugmentConfig, seed: int, side: int = SIDE) -> NDArray[np.int16]:
    out = np.empty((2, 3, side, side), np.uint8)  # as in a batch
    fill_fast(out[1], data, augment, seed)
    return out[1].astype(np.int16)


def is_fast(data: bytes, augment: AugmentConfig, seed: int, side: int = SIDE) -> bool:
    return fast_decoding._decoded(data, draw(augment, seed).min_side(side)) is not None


def farthest(data: bytes, augment: AugmentConfig, seed: int, side: int = SIDE) -> int:
    """The largest difference to Pillow of an image that Pillow does not make itself."""
    assert is_fast(data, augment, seed, side)
    reference = training_image(data, side, augment, seed)
    return int(np.abs(fast(data, augment, seed, side) - reference).max())


KINDS = {
    "4:2:0": {},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "progressive": {"progressive": True},
    "RGB without conversion": {"keep_rgb": True},
    "restart markers": {"restart_marker_blocks": 3},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(160, 120), (93, 141), (301, 75)])
def test_every_kind_of_jpeg_gives_pillows_pixels(kind: str, size: tuple[int, int]) -> None:
    data = jpeg(framed(*size), **KINDS[kind])
    for seed in range(6):
        assert farthest(data, STILL, seed) <= 1
        assert farthest(data, WILD, seed) <= ROUNDING


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(orientation: int) -> None:
    data = jpeg(framed(150, 110), orientation)
    assert max(farthest(data, WILD, seed) for seed in range(12)) <= ROUNDING


@pytest.mark.parametrize("size", [(8, 8), (9, 30), (31, 17)])
def test_an_enlarged_image_is_not_mixed_with_what_is_beyond_it(size: tuple[int, int]) -> None:
    data = jpeg(picture(1, 1, side=64).resize(size))
    assert farthest(data, STILL, 0, side=96) <= 1


def test_beyond_the_image_is_its_edge_colour_and_only_a_line_is_mixed() -> None:
    data = jpeg(picture(1, 2, side=64))
    beyond = AugmentConfig(min_scale=2, max_scale=2, rotation_degrees=20, colour_jitter=0)
    for seed in range(4):  # the image is a square of half the side
        differs = np.abs(fast(data, beyond, seed) - training_image(data, SIDE, beyond, seed)) > 1
        assert differs.sum() < 3 * 4 * (SIDE // 2 + 2)


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photograph_far_larger_than_its_crop_is_shrunk_first(orientation: int) -> None:
    data = jpeg(framed(1210, 1030, rim=150), orientation)
    for seed in range(4):
        assert farthest(data, STILL, seed, side=16) <= 1
        assert farthest(data, WILD, seed, side=16) <= ROUNDING


def swapped(width: int = 64) -> bytes:
    return jpeg(framed(width, 64), icc_profile=RED_AND_BLUE_SWAPPED)


LEFT_TO_PILLOW = {
    "PNG": encoded(framed(64, 64)),
    "WebP": encoded(framed(64, 64), "WEBP"),
    "grey": jpeg(framed(64, 64).convert("L")),
    "CMYK": encoded(framed(64, 64).convert("CMYK"), "JPEG"),
    "colours of another profile": swapped(),
    "smaller than a block": jpeg(picture(1, 1, side=7)),
    "two pictures": encoded(
        framed(64, 64), "MPO", save_all=True, append_images=[framed(64, 64, rim=5)]
    ),
    "bytes between two segments": jpeg(framed(64, 64)).replace(b"\xff\xdb", b"\0\0\xff\xdb", 1),
}


@pytest.mark.parametrize("kind", LEFT_TO_PILLOW)
def test_what_needs_more_than_decoding_is_pillows_to_the_last_bit(kind: str) -> None:
    data = LEFT_TO_PILLOW[kind]
    for seed in range(3):
        assert not is_fast(data, WILD, seed)
        assert np.array_equal(fast(data, WILD, seed), training_image(data, SIDE, WILD, seed))


def test_a_side_that_opencv_cannot_count_is_left_to_pillow() -> None:
    data = jpeg(picture(1, 1).resize((40_000, 8)))
    whole = AugmentConfig(min_scale=1, rotation_degrees=0)
    assert is_fast(data, whole, 0, side=8)
    assert np.array_equal(fast(data, whole, 0, side=8), training_image(data, 8, whole, 0))


def damaged() -> list[bytes]:
    """JPEGs cut at many places, with and without an end, with bits flipped and parts missing."""
    random = np.random.default_rng(0)
    found = []
    small = picture(3, 1, side=96)
    for data in (jpeg(small), jpeg(small, progressive=True), jpeg(small, 6, subsampling=0)):
        ends = [*range(0, len(data), len(data) // 30), *range(len(data) - 12, len(data))]
        found += [data[:end] for end in ends]
        found += [data[:end] + b"\xff\xd9" for end in ends]
        for place in random.integers(len(data), size=60):
            flipped = bytearray(data)
            flipped[place] ^= 1 << int(random.integers(8))
            found.append(bytes(flipped))
        for place in random.integers(700, size=60):  # headers, tables
            changed = bytearray(data)
            changed[place] = int(random.integers(256))
            found.append(bytes(changed))
        for first, second in np.sort(random.integers(len(data), size=(10, 2))):
            found.append(data[:first] + data[second:])
        found.append(data + b"more")
    return found


def answer(data: bytes, make: object) -> NDArray[np.int16] | str:
    try:
        return np.asarray(make(data), np.int16)  # type: ignore[operator]
    except ImageError as error:
        return str(error)


def test_damaged_data_is_refused_where_pillow_refuses_it_in_the_same_words() -> None:
    num_refused = num_fast = 0
    for data in damaged():
        expected = answer(data, lambda d: training_image(d, SIDE, STILL, 0))
        found = answer(data, lambda d: fast(d, STILL, 0))
        if isinstance(expected, str) or isinstance(found, str):
            assert isinstance(found, str)
            assert found == expected
            num_refused += 1
        else:
            assert np.abs(found - expected).max() <= ROUNDING
            num_fast += is_fast(data, STILL, 0)
    assert num_refused > 100
    assert num_fast > 100


def test_threads_make_the_images_of_one() -> None:
    encoded_images = [jpeg(picture(label, 0, side=120)) for label in range(8)]
    alone = [fast(data, WILD, 1) for data in encoded_images]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda data: fast(data, WILD, 1), encoded_images * 6)
        for number, image in enumerate(together):
            assert np.array_equal(image, alone[number % 8])


def test_a_view_of_what_is_read_is_enough() -> None:
    data = jpeg(framed(90, 70))
    view = memoryview(b"before" + data)[6:]
    out = np.empty((3, SIDE, SIDE), np.uint8)
    fill_fast(out, view, WILD, 5)
    assert np.array_equal(out, fast(data, WILD, 5))
    assert io.BytesIO(view).read() == data
