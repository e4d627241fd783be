"""Presets: options that are whole by themselves."""

import pytest

from apdist.config import from_json, to_json
from apdist_verbs.presets import PRESETS, preset


def test_json_gives_back_every_preset() -> None:
    for name in PRESETS:
        assert from_json(to_json(preset(name))) == preset(name)


def test_an_unknown_preset_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ValueError, match="unknown preset 'glyph'; did you mean 'glyphs'"):
        preset("glyph")
