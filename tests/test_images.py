import io

import numpy as np
import pytest
from PIL import Image

from apdist.config import AugmentConfig
from apdist.data import images
from apdist.data.images import ImageError, evaluation_image, image_seed, open_image, training_image
from tests.pictures import encoded, picture

STILL = AugmentConfig(min_scale=1.0, max_scale=1.0, rotation_degrees=0, colour_jitter=0)


def test_an_image_of_the_right_size_is_not_changed() -> None:
    image = picture(3, 1, side=32)
    assert np.array_equal(
        evaluation_image(encoded(image), 32), np.asarray(image).transpose(2, 0, 1)
    )


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


def test_a_jpeg_decoded_small_looks_like_the_whole_one() -> None:
    image = Image.fromarray(np.asarray(picture(2, 0, side=64).resize((800, 600))))
    data = encoded(image, "JPEG", quality=95)
    small = open_image(data, min_side=75)
    assert small.size == (100, 75)
    exact = np.asarray(image.resize((100, 75), Image.Resampling.BOX), dtype=float)
    assert np.abs(np.asarray(small, dtype=float) - exact).mean() < 3


def test_orientation_of_a_camera_is_undone() -> None:
    image = Image.new("RGB", (20, 10), "white")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    assert open_image(encoded(image, "JPEG", exif=exif)).size == (10, 20)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "RGBA", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = Image.new(mode, (16, 12)) if mode == "I;16" else picture(0, 0).convert(mode)
    assert open_image(encoded(image, kind)).mode == "RGB"


def test_transparent_pixels_become_white() -> None:
    assert open_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((1, 1)) == (
        255,
        255,
        255,
    )


def test_sixteen_bit_grey_keeps_its_shades() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    grey = np.asarray(open_image(encoded(Image.fromarray(ramp))))[..., 0]
    assert len(np.unique(grey)) > 200


def test_of_an_animation_the_first_frame_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    target = io.BytesIO()
    frames[0].save(target, "GIF", save_all=True, append_images=frames[1:])
    assert open_image(target.getvalue()).getpixel((2, 2))[0] > 200


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"no image at all", "no image that Pillow can read"),
        (encoded(picture(0, 0, side=64))[:600], "cannot be decoded"),
        (encoded(picture(0, 0, side=64), "JPEG")[:700], "cannot be decoded"),
    ],
)
def test_broken_bytes_are_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        open_image(data)


def test_an_image_with_too_many_pixels_is_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="over 100"):
        open_image(encoded(picture(0, 0)))


def test_a_flip_mirrors_the_image() -> None:
    from dataclasses import replace

    data = encoded(picture(3, 1, side=32))
    flipped = training_image(data, 32, replace(STILL, flip_probability=1.0), seed=0)
    assert np.array_equal(flipped, training_image(data, 32, STILL, seed=0)[:, :, ::-1])
