import math

import numpy as np
import pytest
from PIL import Image

from apdist.config import AugmentConfig
from apdist.data import augmentation
from apdist.data.augmentation import image_seed, training_image
from tests.pictures import encoded, picture

STILL = AugmentConfig(min_scale=1.0, max_scale=1.0, rotation_degrees=0, colour_jitter=0)


def test_training_without_augmentation_is_the_image() -> None:
    image = picture(3, 1, side=32)
    crop = training_image(encoded(image), 32, STILL, seed=5)
    assert np.array_equal(crop, np.asarray(image).transpose(2, 0, 1))


def test_the_same_seed_gives_the_same_crop_and_another_one_does_not() -> None:
    data, augment = encoded(picture(1, 1, side=48)), AugmentConfig(min_scale=0.5)
    first = training_image(data, 24, augment, seed=1)
    assert np.array_equal(first, training_image(data, 24, augment, seed=1))
    assert not np.array_equal(first, training_image(data, 24, augment, seed=2))


def test_seeds_differ_between_epochs_and_keys() -> None:
    assert len({image_seed(0, 0, "a"), image_seed(0, 1, "a"), image_seed(0, 0, "b")}) == 3


def test_a_flip_mirrors_the_image() -> None:
    from dataclasses import replace

    data = encoded(picture(3, 1, side=32))
    flipped = training_image(data, 32, replace(STILL, flip_probability=1.0), seed=0)
    assert np.array_equal(flipped, training_image(data, 32, STILL, seed=0)[:, :, ::-1])


def test_a_photograph_is_decoded_as_small_as_its_crop_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = encoded(picture(2, 0, side=512), "JPEG", quality=95)
    sizes = []
    crop = augmentation._crop

    def spy(image: Image.Image, side: int, where: augmentation.Drawn) -> Image.Image:
        sizes.append((where.scale, image.width))
        assert image.width * where.scale >= side, "the crop would have to be enlarged"
        return crop(image, side, where)

    monkeypatch.setattr(augmentation, "_crop", spy)
    for seed in range(60):
        training_image(data, 64, AugmentConfig(min_scale=0.2, max_scale=1.0), seed)
    for scale, width in sizes:
        assert width == 512 // max(n for n in (1, 2, 4, 8) if 512 * scale // n >= 64)
    assert {width for _, width in sizes} == {128, 256, 512}


def test_a_crop_shows_the_same_place_at_any_decoded_size() -> None:
    image = picture(2, 0, side=32).resize((768, 512), Image.Resampling.BICUBIC)
    whole, data = encoded(image), encoded(image, "JPEG", quality=95)
    augment = AugmentConfig(min_scale=0.3, max_scale=1.0, colour_jitter=0, rotation_degrees=20)
    for seed in range(20):
        png = training_image(whole, 48, augment, seed).astype(float)
        jpeg = training_image(data, 48, augment, seed).astype(float)
        assert np.abs(png - jpeg).mean() < 2


@pytest.mark.parametrize("angle", [0.0, 0.3, -math.pi / 2])
@pytest.mark.parametrize("size", [(80, 60), (60, 80), (800, 600)])
def test_a_crop_is_a_turned_square_about_its_centre(size: tuple[int, int], angle: float) -> None:
    drawn = augmentation.Drawn(0.5, (0.25, -0.5), angle, False, None)
    shrinking, right, down = drawn.place(size, 32)
    assert shrinking == (9 if size[0] == 800 else 1)  # a side of 300 pixels for 32
    length = min(size) / shrinking / 2
    room = [whole / shrinking - length for whole in size]
    centre = [
        whole / shrinking / 2 + share * free / 2
        for whole, share, free in zip(size, (0.25, -0.5), room, strict=True)
    ]
    for x, y in ((16, 16), (0, 0), (32, 0), (5, 20)):
        dx, dy = (x - 16) * length / 32, (y - 16) * length / 32
        turned = (
            math.cos(angle) * dx + math.sin(angle) * dy,
            -math.sin(angle) * dx + math.cos(angle) * dy,
        )
        found = [a * x + b * y + c for a, b, c in (right, down)]
        assert found == pytest.approx([centre[0] + turned[0], centre[1] + turned[1]])


def test_colours_change_in_brightness_contrast_and_saturation() -> None:
    brightness, contrast, saturation = 1 + 0.4 * np.random.default_rng(7).uniform(-1, 1, 3)
    found = augmentation._draw_colours(0.4, np.random.default_rng(7))
    assert found is not None
    for red, green, blue in ((255, 0, 0), (10, 200, 90), (128, 128, 128)):
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        mixed = [saturation * c + (1 - saturation) * grey for c in (red, green, blue)]
        expected = [128 + contrast * (brightness * c) - 128 * contrast for c in mixed]
        assert found @ (red, green, blue, 1) == pytest.approx(expected)
    assert augmentation._draw_colours(0, np.random.default_rng(7)) is None


def test_what_is_drawn_fills_the_ranges_that_were_asked_for() -> None:
    augment = AugmentConfig(min_scale=0.2, max_scale=0.9, rotation_degrees=30)
    drawn = [augmentation.draw(augment, seed) for seed in range(300)]
    turn = math.radians(30)
    for values, low, high in (
        ([one.scale for one in drawn], 0.2, 0.9),
        ([one.shift[0] for one in drawn], -1, 1),
        ([one.shift[1] for one in drawn], -1, 1),
        ([one.angle for one in drawn], -turn, turn),
    ):
        margin = (high - low) / 20
        assert low <= min(values) < low + margin
        assert high - margin < max(values) <= high


def test_beyond_the_image_is_the_mean_of_its_corners() -> None:
    image = Image.new("RGB", (5, 4), (1, 1, 1))
    for place, level in (((0, 0), 40), ((4, 0), 80), ((0, 3), 120), ((4, 3), 160)):
        image.putpixel(place, (level, 0, level // 2))
    assert augmentation._edge_colour(image) == (100, 0, 50)
