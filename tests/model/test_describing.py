"""Batches of pictures give the descriptors that each has alone."""

import pytest
import torch

from apdist.config import ModelConfig
from apdist.data.images import Fit
from apdist.model.describing import _without_name, described_parts
from apdist.model.pretrained import TrainedModel, build_model
from tests.pictures import picture


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    torch.manual_seed(1)
    return TrainedModel(build_model(ModelConfig(dim=8)), Fit(side=40, resize="longest"), "m")


def test_pictures_of_several_shapes_keep_their_places(model: TrainedModel) -> None:
    images = [picture(n, 0, side=40).crop((0, 0, 40, 20 + 20 * (n % 2))) for n in range(6)]
    model.network.train()
    together = model.describe(iter(images))
    assert model.network.training  # as it was
    assert together.shape == (6, 8)
    for number, image in enumerate(images):
        torch.testing.assert_close(together[number], model.describe(image)[0], atol=1e-6, rtol=0)


def test_parts_name_what_they_hold_and_what_they_miss(model: TrainedModel) -> None:
    images = [picture(0, 0), b"text", picture(0, 1), "missing.png", b""]
    parts = list(
        described_parts(model.network, model.fit, images, batch_size=2, skip_unreadable=True)
    )
    assert [part.numbers for part in parts] == [[0], [2], []]
    assert [part.num_given for part in parts] == [2, 2, 1]
    assert [name for part in parts for name, _ in part.unread] == [
        "picture 1",
        "missing.png",
        "picture 4",
    ]
    with pytest.raises(ValueError, match="^picture 1 is no image that Pillow can read$"):
        model.describe(images)
    with pytest.raises(ValueError, match="got none"):
        model.describe([])


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ("a.png does not exist; check the path", "does not exist; check the path"),
        ("a.png: access denied", "cannot be read: access denied"),
        ("is no image", "is no image"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named_once(told: str, reason: str) -> None:
    assert _without_name(told, "a.png") == reason
