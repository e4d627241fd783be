"""Copies correlate, scaled and cropped ones too, and other pictures do not."""

import io

import numpy as np
import pytest
from PIL import Image

from apdist.audit.correlation import match
from apdist.audit.duplicates import MOST_COLOUR, NEAR
from apdist.audit.looks import COLOUR_SIDE, SIDE, Looks
from tests.audit.faults import SIZE, photo


def looks_of(images: list[Image.Image]) -> Looks:
    small = [
        image.resize((SIDE, SIDE), Image.Resampling.BILINEAR).convert("YCbCr") for image in images
    ]
    planes = np.stack([np.asarray(image) for image in small])
    parts = SIDE // COLOUR_SIDE
    chroma = (
        planes[..., 1:].reshape(-1, COLOUR_SIDE, parts, COLOUR_SIDE, parts, 2).mean(axis=(2, 4))
    )
    return Looks(
        grey=planes[..., 0].copy(),
        colours=chroma.transpose(0, 3, 1, 2).astype(np.uint8),
        shapes=np.array([image.size for image in images]),
        digests=[b""] * len(images),
    )


def again(image: Image.Image, quality: int) -> Image.Image:
    target = io.BytesIO()
    image.save(target, "JPEG", quality=quality)
    return Image.open(target).convert("RGB")


BOXES = [(10, 8, 96, 80), (0, 0, 88, 70), (6, 2, 90, 78), (16, 0, 96, 80)]
ORIGINAL = photo(1, (192, 160))
COPIES = {
    "JPEG 60": again(ORIGINAL, 60),
    "scaled": ORIGINAL.resize((134, 112), Image.Resampling.BICUBIC),
    **{f"cut {box}": ORIGINAL.crop(tuple(2 * at for at in box)) for box in BOXES},  # type: ignore[arg-type]
}


@pytest.mark.parametrize("copy", list(COPIES))
def test_a_copy_is_found_either_way_round_where_it_was_cut(copy: str) -> None:
    looks = looks_of([ORIGINAL, COPIES[copy]])
    found = match(looks, np.array([[0, 1], [1, 0]]))
    assert (found.scores >= NEAR).all()
    assert (found.colours <= MOST_COLOUR).all()
    if copy.startswith("cut"):
        assert found.is_first_part.tolist() == [False, True]
        left, top, right, bottom = BOXES[list(COPIES).index(copy) - 2]
        window = ((left + right) / 2 / 96, (top + bottom) / 2 / 80)
        assert np.abs(found.windows[:, :2] - window).max() < 0.03


def test_other_pictures_are_not_near() -> None:
    looks = looks_of([photo(number) for number in range(12)])
    pairs = np.array([(i, j) for i in range(12) for j in range(i)])
    seen: list[int] = []
    assert (match(looks, pairs, seen.append).scores < 0.9).all()
    assert seen == [len(pairs)]


def test_equal_shapes_of_other_colours_differ() -> None:
    image = photo(3)
    grey = image.convert("L")
    red = Image.merge("RGB", [grey.point(lambda v: min(255, v + 60)), grey, grey])
    blue = Image.merge("RGB", [grey, grey, grey.point(lambda v: min(255, v + 60))])
    found = match(looks_of([red, blue]), np.array([[0, 1]]))
    assert found.scores[0] > 0.9
    assert found.colours[0] > MOST_COLOUR


def test_flat_pictures_and_no_pairs_match_nothing() -> None:
    looks = looks_of([Image.new("RGB", SIZE, "white"), Image.new("RGB", SIZE, "black")])
    assert match(looks, np.array([[0, 1]])).scores.tolist() == [0]
    assert len(match(looks, np.empty((0, 2), np.int64)).scores) == 0
