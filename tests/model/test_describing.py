"""Batches of pictures give the descriptors that each has alone."""

import pytest
import torch
from torch import Tensor, nn

from apdist.config import ModelConfig
from apdist.data.images import Fit
from apdist.model.describing import _without_name, describe_given, described_parts
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
    assert [part.names for part in parts] == [["picture 0"], ["picture 2"], []]
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


class Watched(nn.Module):
    """Means of pixels, as a network with dropout has them; keeps how many images it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        means = images.float().mean(dim=(2, 3)) * self.scale  # (b, 3)
        return torch.nn.functional.dropout(means, training=self.training)


def test_a_network_in_training_describes_as_one_that_is_trained(model: TrainedModel) -> None:
    network, images = Watched().train(), [picture(number, 0) for number in range(5)]
    found = describe_given(network, model.fit, images, batch_size=2)
    assert torch.equal(found, describe_given(Watched().eval(), model.fit, images))
    assert network.training
    assert max(network.sizes) == 2
    assert sum(network.sizes) == 5


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
