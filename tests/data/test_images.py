import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageOps

from apdist.data import images
from apdist.data.images import Fit, ImageError, evaluation_image, open_image
from apdist.data.pixels import to_rgb
from tests.pictures import encoded, picture


def test_an_image_of_the_right_size_is_not_changed() -> None:
    image = picture(3, 1, side=32)
    assert np.array_equal(
        evaluation_image(encoded(image), Fit(side=32)), np.asarray(image).transpose(2, 0, 1)
    )


def test_a_jpeg_decoded_small_looks_like_the_whole_one() -> None:
    image = Image.fromarray(np.asarray(picture(2, 0, side=64).resize((800, 600))))
    data = encoded(image, "JPEG", quality=95)
    small = open_image(data, min_side=75)
    assert small.size == (100, 75)
    exact = np.asarray(image.resize((100, 75), Image.Resampling.BOX), dtype=float)
    assert np.abs(np.asarray(small, dtype=float) - exact).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("min_side", [0, 20])
def test_orientation_of_a_camera_is_undone(orientation: int, kind: str, min_side: int) -> None:
    image = picture(1, 2, side=80).crop((0, 0, 80, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    with Image.open(io.BytesIO(data)) as stored:
        upright = ImageOps.exif_transpose(stored).convert("RGB")
    assert images.image_size(data) == upright.size
    result = open_image(data, min_side=min_side)
    assert looks_like(result, upright.resize(result.size, Image.Resampling.BOX))
    assert min(result.size) == (20 if min_side and kind == "JPEG" else 40)


def test_damaged_metadata_does_not_spoil_a_photograph() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(0, 0), "JPEG", exif=exif)
    at = data.index(b"Exif\0\0") + 6
    for broken in (
        data[:at] + b"XX" + data[at + 2 :],
        data[: at + 8] + b"\xff\xff" + data[at + 10 :],
    ):
        assert open_image(broken).size == (24, 24)
        assert images.image_size(broken) == (24, 24)


def looks_like(image: Image.Image, other: Image.Image, tolerance: float = 6) -> bool:
    difference = np.asarray(image, dtype=float) - np.asarray(other.convert("RGB"), dtype=float)
    return bool(image.mode == "RGB" and np.abs(difference).mean() < tolerance)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("L", "PNG"), ("L", "JPEG"), ("P", "PNG"), ("P", "GIF"), ("1", "PNG"), ("LA", "PNG"),
        ("RGBA", "PNG"), ("RGBA", "WEBP"), ("CMYK", "TIFF"), ("CMYK", "JPEG"), ("YCbCr", "JPEG"),
    ],
)  # fmt: skip
def test_every_mode_becomes_rgb_and_looks_the_same(mode: str, kind: str) -> None:
    image = picture(0, 0).convert(mode)
    assert looks_like(open_image(encoded(image, kind, quality=95)), image)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_photographs_are_decoded_small_too(mode: str) -> None:
    image = picture(2, 0, side=256).convert(mode)
    small = open_image(encoded(image, "JPEG", quality=95), min_side=64)
    assert small.size == (64, 64)
    assert looks_like(small, image.convert("RGB").resize((64, 64), Image.Resampling.BOX))


def adobe_marker(data: bytes) -> int:
    """Where Adobe's marker segment begins: FF EE, length 14, "Adobe", ..., transform."""
    return data.index(b"\xff\xee\x00\x0eAdobe")


def test_cmyk_without_the_mark_of_adobe_is_not_inverted() -> None:
    inks = Image.new("CMYK", (16, 16), (200, 30, 60, 10))
    inverted = encoded(inks, "JPEG", quality=95)
    at = adobe_marker(inverted)
    plain = encoded(ImageChops.invert(inks), "JPEG", quality=95)
    assert looks_like(open_image(inverted), inks)
    assert looks_like(open_image(plain[:at] + plain[at + 16 :]), inks)


def test_ycck_is_read_as_what_it_holds() -> None:
    image = picture(1, 1)
    luma, blue, red = ImageChops.invert(image).convert("YCbCr").split()
    no_black = Image.new("L", image.size, 255)
    # Pillow inverts what it writes, and YCCK is this with another number in Adobe's segment.
    stored = ImageChops.invert(Image.merge("CMYK", (luma, blue, red, no_black)))
    data = bytearray(encoded(stored, "JPEG", quality=95))
    data[adobe_marker(bytes(data)) + 15] = 2
    assert looks_like(open_image(bytes(data)), image)


@pytest.mark.parametrize("mode", ["P", "PA", "LA", "L", "RGB"])
def test_transparency_of_every_kind_becomes_white(mode: str) -> None:
    if mode == "PA":
        image = Image.new("PA", (4, 4), (0, 0))
        assert to_rgb(image)[0].getpixel((1, 1)) == (255, 255, 255)
        return
    if mode == "LA":
        data = encoded(Image.new("LA", (4, 4), (0, 0)))
    else:
        key: object = (9, 9, 9) if mode == "RGB" else 9
        image = Image.new(mode, (4, 4), key)  # type: ignore[arg-type]
        if mode == "P":
            image.putpalette(bytes(30))
        data = encoded(image, "PNG", transparency=key)
    assert open_image(data).getpixel((1, 1)) == (255, 255, 255)


def test_partly_transparent_palettes_are_blended() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 0, 0, 200])
    data = encoded(image, "PNG", transparency=bytes([255, 128]))
    red, green, blue = open_image(data).getpixel((1, 1))  # type: ignore[misc]
    assert red == green
    assert 126 <= red <= 128
    assert 226 <= blue <= 229


def test_transparent_pixels_become_white() -> None:
    assert open_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))).getpixel((1, 1)) == (
        255,
        255,
        255,
    )


def test_pixels_that_are_not_finite_are_refused() -> None:
    data = encoded(Image.fromarray(np.full((4, 4), np.nan, dtype=np.float32)), "TIFF")
    with pytest.raises(ImageError, match="not finite"):
        open_image(data)


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


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises that many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    rest = encoded(picture(0, 0))
    return start + struct.pack(">I", zlib.crc32(chunk)) + rest[33:]


@pytest.mark.parametrize("size", [(20_000, 20_000), (178_956_971, 1)])
def test_a_decompression_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    for read in (open_image, images.image_size):
        with pytest.raises(ImageError, match="178956970"):
            read(bomb(*size))


def test_a_large_image_below_the_limit_is_taken_without_a_warning() -> None:
    assert images.image_size(bomb(10_000, 10_000)) == (10_000, 10_000)


def test_random_damage_never_raises_anything_else() -> None:
    random = np.random.default_rng(0)
    kinds = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "ICO")
    for kind in kinds:
        whole = np.frombuffer(encoded(picture(0, 0), kind), dtype=np.uint8)
        for _ in range(60):
            data = whole[: random.integers(1, len(whole))].copy()
            data[random.integers(0, len(data), 3)] = random.integers(0, 256, 3)
            for read in (open_image, images.image_size):
                with contextlib.suppress(ImageError):
                    read(data.tobytes())


def test_an_image_with_too_many_pixels_is_refused_before_decoding(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    with pytest.raises(ImageError, match="over 100"):
        open_image(encoded(picture(0, 0)))


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        ((400, 300), 1, (64, 48)),
        ((300, 400), 1, (48, 64)),
        ((1000, 3), 1, (64, 32)),
        ((400, 300), 14, (70, 42)),
        ((16, 16), 1, (64, 64)),
        ((3, 1000), 16, (32, 64)),
    ],
)
def test_the_longer_side_is_as_asked_and_both_are_multiples(
    size: tuple[int, int], multiple: int, expected: tuple[int, int]
) -> None:
    fit = Fit(side=64, resize="longest", multiple=multiple)
    found = evaluation_image(encoded(Image.new("RGB", size, (9, 99, 199))), fit)
    assert found.shape == (3, expected[1], expected[0])
    assert np.unique(found).tolist() == [9, 99, 199]


@pytest.mark.parametrize(("side", "least"), [(224, 32), (64, 32), (20, 10)])
def test_a_thin_image_keeps_some_pixels_but_never_more_than_half(side: int, least: int) -> None:
    assert Fit(side=side, resize="longest").size(10_000, 3) == (side, least)
    assert Fit(side=side, resize="longest").size(3, 10_000) == (least, side)


@pytest.mark.parametrize("size", [(48, 32), (32, 48)])
def test_a_square_is_cut_from_the_middle(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    found = evaluation_image(encoded(Image.fromarray(pixels)), Fit(side=32))
    left, top = (size[0] - 32) // 2, (size[1] - 32) // 2
    middle = pixels[top : top + 32, left : left + 32]
    np.testing.assert_array_equal(found, middle.transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("size", "expected"), [((400, 300), (64, 48)), ((50, 40), (50, 40)), ((50, 3), (50, 32))]
)
def test_smaller_images_are_left_as_they_are_where_asked(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    image = Image.effect_noise(size, 50).convert("RGB")
    found = evaluation_image(encoded(image), Fit(side=64, resize="shrink"))
    assert found.shape == (3, expected[1], expected[0])
    if size == expected:
        np.testing.assert_array_equal(found, np.asarray(image).transpose(2, 0, 1))


def test_images_are_resized_with_the_filter_that_is_asked_for() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    kinds = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    for name, kind in kinds.items():
        expected = np.asarray(image.resize((32, 32), kind)).transpose(2, 0, 1)
        found = evaluation_image(encoded(image), Fit(side=32, interpolation=name))
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(evaluation_image(encoded(image), Fit(side=32)), expected)


def test_a_box_is_cut_before_the_image_is_resized() -> None:
    image = picture(1, 2, 60)
    for box in ((10, 20, 30, 50), (9.6, 20.4, 30.4, 49.6), (-5, 20, 30, 90)):
        left, top, right, bottom = (
            max(0, round(box[0])),
            round(box[1]),
            round(box[2]),
            min(60, round(box[3])),
        )
        cut = image.crop((left, top, right, bottom))
        for fit in (Fit(side=16), Fit(side=16, resize="longest")):
            found = evaluation_image(encoded(image), fit, box)
            assert (found == evaluation_image(encoded(cut), fit)).all()


def test_a_box_keeps_all_pixels_of_a_jpeg_that_would_be_decoded_at_a_fraction() -> None:
    image = picture(1, 2, 128)
    data = encoded(image, "JPEG", quality=95)
    found = evaluation_image(data, Fit(side=16), (0, 0, 16, 16))
    whole = np.asarray(open_image(data)).transpose(2, 0, 1)
    assert (found == whole[:, :16, :16]).all()


def test_a_box_beside_the_image_is_refused() -> None:
    with pytest.raises(ImageError, match="has 60 x 60 pixels, none of them in the box"):
        evaluation_image(encoded(picture(1, 2, 60)), Fit(side=16), (70, 0, 90, 20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resize": "fill"}, "resize must be crop or longest or shrink, got 'fill'"),
        ({"interpolation": "cubic"}, "interpolation must be nearest or .*, got 'cubic'"),
    ],
)
def test_a_size_that_images_cannot_be_brought_to_is_refused(
    change: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Fit(side=32, **change)  # type: ignore[arg-type]
