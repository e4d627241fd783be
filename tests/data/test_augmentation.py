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
