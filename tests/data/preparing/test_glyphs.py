"""The embedded data set: which characters it holds, and that drawing depends on the seed alone."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from apdist.data.preparing.glyphs import (
    Glyph,
    _posed_ink,
    draw_glyph,
    find_glyphs,
    glyph_images,
    split_glyphs,
)

# The same letter in several scripts, or the same shape at another size or place.
LOOK_ALIKES = [
    "A\N{GREEK CAPITAL LETTER ALPHA}\N{CYRILLIC CAPITAL LETTER A}",
    "B\N{GREEK CAPITAL LETTER BETA}\N{CYRILLIC CAPITAL LETTER VE}",
    "Oo\N{GREEK CAPITAL LETTER OMICRON}\N{CYRILLIC CAPITAL LETTER O}",
    "e\N{CYRILLIC SMALL LETTER IE}",
    "Cc",
    "Zz",
    "\N{OHM SIGN}\N{GREEK CAPITAL LETTER OMEGA}",
    "\N{INCREMENT}\N{GREEK CAPITAL LETTER DELTA}",
    ".\N{MIDDLE DOT}\N{BULLET}",
    "\N{BULLET}\N{BLACK CIRCLE}",
    "\N{MODIFIER LETTER APOSTROPHE}\N{RIGHT SINGLE QUOTATION MARK}",
    "\N{DIVISION SLASH}\N{FRACTION SLASH}",
    "\N{FULL BLOCK}\N{BLACK SQUARE}",
]


@pytest.fixture(scope="module")
def glyphs() -> list[Glyph]:
    return find_glyphs()


@pytest.fixture(scope="module")
def letter(glyphs: list[Glyph]) -> Glyph:
    return next(glyph for glyph in glyphs if glyph.character == "Ж")


def test_there_are_over_a_thousand_classes_in_code_point_order(glyphs: list[Glyph]) -> None:
    characters = [glyph.character for glyph in glyphs]
    assert len(characters) > 1000
    assert characters == sorted(set(characters))


def test_every_glyph_is_in_at_least_min_typefaces(glyphs: list[Glyph]) -> None:
    assert min(len(set(glyph.typefaces)) for glyph in glyphs) >= 12


def test_fewer_typefaces_admit_more_characters(glyphs: list[Glyph]) -> None:
    assert len(find_glyphs(min_typefaces=15)) < len(glyphs)


def test_a_glyph_carries_its_unicode_name(letter: Glyph) -> None:
    assert letter.name == "U+0416 CYRILLIC CAPITAL LETTER ZHE"


def test_ordinary_letters_and_digits_are_classes(glyphs: list[Glyph]) -> None:
    assert set("ABEGKQRag234578&@%βψЖЯ") <= {glyph.character for glyph in glyphs}


@pytest.mark.parametrize("alike", LOOK_ALIKES)
def test_characters_that_look_alike_are_one_class_at_most(glyphs: list[Glyph], alike: str) -> None:
    assert sum(glyph.character in alike for glyph in glyphs) <= 1


def test_no_mark_space_or_superscript_is_a_class(glyphs: list[Glyph]) -> None:
    assert not {glyph.character for glyph in glyphs} & set(" \u0301\u00ad\u2800\ufffc²ᵃₐ")


def test_no_image_is_blank(glyphs: list[Glyph]) -> None:
    rng = np.random.default_rng(0)
    for glyph in glyphs[::30]:
        for typeface in glyph.typefaces:
            assert _posed_ink(glyph.character, typeface, 64, rng).max() > 0.5, (glyph, typeface)


def test_an_image_is_rgb_and_of_the_size_asked_for(letter: Glyph) -> None:
    for size in (16, 64, 225):
        image = draw_glyph(letter, "DejaVuSans", size=size, seed=0)
        assert (image.mode, image.size) == ("RGB", (size, size))


def test_the_same_arguments_give_the_same_image(letter: Glyph) -> None:
    first, second = (draw_glyph(letter, "DejaVuSerif", size=48, seed=3) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_another_typeface_or_seed_gives_another_image(letter: Glyph) -> None:
    images = {
        draw_glyph(letter, typeface, size=48, seed=seed).tobytes()
        for typeface in letter.typefaces
        for seed in (0, 1)
    }
    assert len(images) == 2 * len(letter.typefaces)


def test_the_ink_itself_differs_from_typeface_to_typeface(letter: Glyph) -> None:
    inks = {
        _posed_ink("Ж", typeface, 64, np.random.default_rng(0)).tobytes()
        for typeface in letter.typefaces
    }
    assert len(inks) == len(letter.typefaces)


def test_the_ink_stays_inside_the_image(glyphs: list[Glyph]) -> None:
    rng = np.random.default_rng(0)
    at_the_edge = 0
    for glyph in glyphs[::10]:
        ink = _posed_ink(glyph.character, glyph.typefaces[0], 64, rng)
        at_the_edge += bool(max(ink[0].max(), ink[-1].max(), ink[:, 0].max(), ink[:, -1].max()))
    # Squares lose a corner when they are turned and shifted.
    assert at_the_edge < 0.1 * len(glyphs[::10])


def test_another_process_with_another_hash_seed_draws_the_same_bytes(glyphs: list[Glyph]) -> None:
    script = """
import hashlib
from apdist.data.preparing.glyphs import find_glyphs, glyph_images
digest = hashlib.sha256()
for image in glyph_images(find_glyphs()[::100], size=32, seed=5):
    digest.update(image.draw().tobytes())
print(digest.hexdigest())
"""
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    digest = hashlib.sha256()
    for image in glyph_images(glyphs[::100], size=32, seed=5):
        digest.update(image.draw().tobytes())
    assert result.stdout.strip() == digest.hexdigest()


def test_importing_the_module_does_not_import_matplotlib() -> None:
    script = "import sys, apdist.data.preparing.glyphs; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_training_and_test_characters_are_disjoint_and_complete(glyphs: list[Glyph]) -> None:
    train, test = split_glyphs(glyphs, num_test=300, seed=0)
    assert len(test) == 300
    assert sorted(glyph.character for glyph in train + test) == [g.character for g in glyphs]


def test_the_split_depends_on_the_seed_alone(glyphs: list[Glyph]) -> None:
    assert split_glyphs(glyphs, num_test=300, seed=1) == split_glyphs(glyphs, num_test=300, seed=1)
    assert split_glyphs(glyphs, num_test=300, seed=1) != split_glyphs(glyphs, num_test=300, seed=2)


@pytest.mark.parametrize("num_test", [0, -1, 5])
def test_a_split_without_training_or_test_characters_is_refused(
    glyphs: list[Glyph], num_test: int
) -> None:
    with pytest.raises(ValueError, match="--num-test must be between 1 and 4"):
        split_glyphs(glyphs[:5], num_test=num_test, seed=0)


def test_min_typefaces_0_is_refused() -> None:
    with pytest.raises(ValueError, match="--min-typefaces must be at least 1, got 0"):
        find_glyphs(min_typefaces=0)


def test_more_typefaces_than_any_character_is_in_are_refused_with_how_many_there_are() -> None:
    with pytest.raises(ValueError, match=r"is 20, .* in more than 18 typefaces; use 18 or less"):
        find_glyphs(20)


def test_by_default_each_typeface_gives_one_image(glyphs: list[Glyph]) -> None:
    images = list(glyph_images(glyphs[:30], size=32, seed=0))
    pairs = {(image.glyph.character, image.typeface) for image in images}
    assert len(images) == len(pairs) == sum(len(glyph.typefaces) for glyph in glyphs[:30])


def test_more_images_than_typefaces_are_other_poses(letter: Glyph) -> None:
    images = list(glyph_images([letter], size=32, seed=0, images_per_glyph=40))
    uses = Counter(image.typeface for image in images)
    assert max(uses.values()) - min(uses.values()) == 1
    assert len({image.draw().tobytes() for image in images}) == 40


def test_another_seed_gives_other_poses(letter: Glyph) -> None:
    seeds = [{image.seed for image in glyph_images([letter], size=32, seed=s)} for s in (0, 1)]
    assert not seeds[0] & seeds[1]


def test_an_image_record_survives_pickling_and_draws_the_same(letter: Glyph) -> None:
    image = next(iter(glyph_images([letter], size=32, seed=0)))
    copy = pickle.loads(pickle.dumps(image))
    assert isinstance(copy.draw(), Image.Image)
    assert copy.draw().tobytes() == image.draw().tobytes()
