"""Who makes training images: named with versions, refused where it is not here."""

import subprocess
import sys

import numpy as np
import pytest

from apdist.config import AugmentConfig, Config, config_hash, from_json, override, to_json
from apdist.data import decoders
from apdist.data.augmentation import training_image
from apdist.data.decoders import fill_of, resolved, with_versions
from tests.pictures import encoded, picture

FAST, PILLOW = resolved("simplejpeg"), resolved("pillow")


def test_a_name_has_the_version_of_every_package_that_makes_pixels() -> None:
    import cv2
    import PIL
    import simplejpeg

    versions = simplejpeg.__version__, cv2.__version__, PIL.__version__
    assert "simplejpeg-{}+opencv-{}+pillow-{}".format(*versions) == FAST == resolved("auto")
    assert f"pillow-{PIL.__version__}" == PILLOW
    assert [resolved(name) for name in (FAST, PILLOW)] == [FAST, PILLOW]


@pytest.mark.parametrize("missing", ["cv2", "simplejpeg"])
def test_without_its_packages_the_fast_decoder_is_refused_and_auto_is_pillow(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    assert resolved("auto") == PILLOW
    with pytest.raises(ValueError, match=r"pip install 'apdist\[fast-decode\]', or use .* pillow"):
        resolved("simplejpeg")
    with pytest.raises(ValueError, match=f"is simplejpeg-.*, and here is {PILLOW} alone, which"):
        resolved(FAST)


@pytest.mark.parametrize("other", [FAST.replace("opencv-", "opencv-0."), "pillow-0.1"])
def test_other_versions_make_no_image(other: str) -> None:
    here = FAST if other.startswith("simplejpeg") else PILLOW
    expected = f"is {other}, and here is {here}, which .* --fork --data.decoder auto"
    for ask in (resolved, fill_of):
        with pytest.raises(ValueError, match=expected.replace("+", r"\+")):
            ask(other)


def test_the_versions_of_the_decoder_are_in_the_options_and_their_hash() -> None:
    fast, slow = (
        with_versions(override(Config(), {"data.decoder": name})) for name in ("auto", "pillow")
    )
    assert fast.data.decoder == FAST
    assert from_json(to_json(fast)) == fast
    other = override(fast, {"data.decoder": FAST + ".1"})
    assert len({config_hash(config) for config in (fast, slow, other)}) == 3


def test_pillow_makes_the_images_of_the_reference() -> None:
    data, augment = encoded(picture(1, 2, side=64), "JPEG"), AugmentConfig()
    out = np.empty((2, 3, 24, 24), np.uint8)
    fill_of("pillow")(out[1], data, augment, 3)
    assert np.array_equal(out[1], training_image(data, 24, augment, 3))


def test_opencv_is_imported_only_where_it_is_chosen() -> None:
    code = (
        "import sys, apdist.data.loading.loader_process, apdist.data.decoders as decoders\n"
        "decoders.fill_of('pillow')\n"
        "assert not {'cv2', 'simplejpeg', 'torch'} & set(sys.modules)\n"
        "decoders.fill_of('simplejpeg')\n"
        "assert sys.modules['cv2'].getNumThreads() == 1, 'it would start threads of its own'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_kinds_of_decoders_are_those_of_the_options() -> None:
    for name in ("auto", "pillow", decoders.FAST):
        assert override(Config(), {"data.decoder": name}).data.decoder == name
