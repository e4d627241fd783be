"""Sides that patches fill."""

import pytest

from apdist.model.traits import Traits, refuse_side


@pytest.mark.parametrize(
    ("side", "nearest"), [(224, ""), (225, "224 and 238"), (223, "210 and 224"), (9, "14")]
)
def test_a_side_is_a_multiple_of_the_patch_or_refused_with_the_nearest(
    side: int, nearest: str
) -> None:
    traits = Traits(num_channels=3, stride=14)
    if not nearest:
        refuse_side("hub:x", traits, side)
        return
    message = f"data.image_size {side} is no multiple of 14, .* the nearest are {nearest}; it was"
    with pytest.raises(ValueError, match=message):
        refuse_side("hub:x", traits, side)


def test_convolutions_take_any_side() -> None:
    refuse_side("resnet18", Traits(num_channels=3), 37)
