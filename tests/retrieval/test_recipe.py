"""Descriptors of several scales, whitened."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from apdist.config import ModelConfig
from apdist.data.images import Fit
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import TrainedModel
from apdist.model.whitening import Whitening
from apdist.retrieval.recipe import Recipe, at_scale, prepared, recipe_of


@pytest.fixture(scope="module")
def network() -> DescriptorNet:
    torch.manual_seed(0)
    return DescriptorNet(ModelConfig(dim=6)).double().eval()


def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 40, 56), generator=generator, dtype=torch.uint8)


def test_scales_are_pooled_by_their_power_mean_and_whitened_then(network: DescriptorNet) -> None:
    scales, power = (1.0, math.sqrt(0.5), math.sqrt(2)), 2.7
    torch.manual_seed(2)
    whitening = Whitening(
        mean=torch.randn(6, dtype=torch.float64), projection=torch.randn(4, 6, dtype=torch.float64)
    )
    recipe = Recipe(scales=scales, scale_power=power, whitening=whitening)
    with torch.no_grad():
        found = recipe.of(network)(images())
        total = torch.zeros(2, 6, dtype=torch.float64)
        for scale in scales:
            pixels = images().double() / 255
            if scale != 1:
                pixels = F.interpolate(
                    pixels, scale_factor=scale, mode="bilinear", align_corners=False
                )
            one = network(pixels)
            total += one.sign() * one.abs() ** power / len(scales)
    pooled = F.normalize(total.sign() * total.abs() ** (1 / power), dim=1)
    expected = F.normalize((pooled - whitening.mean) @ whitening.projection.T, dim=1)
    assert found.shape == (2, 4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # float32 pixels when scaled


@pytest.mark.parametrize(
    "whitening", [None, Whitening(mean=torch.ones(6), projection=torch.eye(6))]
)
def test_the_first_numbers_are_kept_of_what_was_whitened(
    network: DescriptorNet, whitening: Whitening | None
) -> None:
    recipe = Recipe(whitening=whitening, dim=4)
    with torch.no_grad():
        found = recipe.of(network)(images())
        whole = Recipe(whitening=whitening).of(network)(images())[:, :4]
    torch.testing.assert_close(found, whole / whole.square().sum(1, keepdim=True).sqrt())
    assert recipe.dim_of(network) == 4
    assert Recipe(whitening=whitening).dim_of(network) == 6
    describing = {"size": 0, "scales": [1.0], "scale_power": 1.0, "whiten": "", "dim": 6}
    assert recipe_of(describing, "no run", 6).is_plain  # nothing is cut
    with pytest.raises(ValueError, match="dim 7 is more than the 6 numbers of a descriptor"):
        Recipe(whitening=whitening, dim=7).of(network)


def test_images_of_a_large_scale_go_through_a_cpu_in_fewer_at_once(
    network: DescriptorNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apdist.model.pieces._PIXELS", images()[:, 0].numel())
    seen: list[tuple[int, ...]] = []
    noting = network.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    with torch.no_grad():
        Recipe(scales=(1.0, math.sqrt(0.5), 2.0)).of(network)(images())
    noting.remove()
    sizes = [(count, height) for count, _, height, _ in seen]
    assert sizes == [(2, 40), (2, 28), (1, 80), (1, 80)]


def test_the_networks_own_way_is_the_network(network: DescriptorNet) -> None:
    assert Recipe().of(network) is network
    assert Recipe().is_plain
    assert Recipe(size=640).of(network) is network
    fit = Fit(side=224, multiple=14)
    assert Recipe().fit(fit) is fit
    assert Recipe(size=640).fit(fit) == Fit(side=640, resize="longest", multiple=14)
    shrunk = Fit(side=224, resize="shrink")
    assert Recipe(size=640).fit(shrunk) == Fit(side=640, resize="shrink")


def test_sides_stay_multiples_of_a_patch() -> None:
    assert at_scale(images(), 0.5, 16).shape == (2, 3, 16, 32)
    assert at_scale(images(), 0.7071).shape == (2, 3, 28, 39)
    assert at_scale(images(), 0.01).shape == (2, 3, 1, 1)
    assert at_scale(images(), 0.02).shape == (2, 3, 1, 1)  # one side would have no pixel
    assert at_scale(images(), 1.0).dtype == torch.uint8
    assert at_scale(images(), 2.0).max() <= 1


def test_what_was_done_is_told_apart() -> None:
    first = Whitening(mean=torch.zeros(3), projection=torch.eye(3))
    second = Whitening(mean=torch.zeros(3), projection=2 * torch.eye(3))
    facts = [
        recipe.facts()
        for recipe in (
            Recipe(),
            Recipe(size=640),
            Recipe(scales=(1.0, 0.5)),
            Recipe(scales=(1.0, 0.5), scale_power=3.0),
            Recipe(whitening=first),
            Recipe(whitening=second),
            Recipe(dim=4),
            Recipe(whitening=second, dim=2),
        )
    ]
    assert all(facts.count(one) == 1 for one in facts)
    assert Recipe(whitening=first).facts() == Recipe(whitening=first).facts()
    # Of one scale there is nothing to average.
    assert Recipe(scale_power=3.0).facts() == Recipe().facts()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": -1}, "size must be at least 0"),
        ({"dim": -1}, "dim must be at least 0 numbers, got -1"),
        ({"scales": ()}, "scales: give one or more"),
        ({"scales": (1.0, 0.0)}, r"scales must lie in \(0, 4\], got 0"),
        ({"scales": (5.0,)}, r"scales must lie in \(0, 4\], got 5"),
        ({"scales": (math.nan,)}, "got nan"),
        ({"scales": (1.0, 1.0)}, "scales must differ"),
        ({"scale_power": 0.0}, "scale_power"),
    ],
)
def test_odd_recipes_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**changes)


def test_a_whitening_of_another_width_is_refused(network: DescriptorNet) -> None:
    whitening = Whitening(mean=torch.zeros(3), projection=torch.eye(3))
    with pytest.raises(ValueError, match=r"of 3 numbers and this network gives 6"):
        Recipe(whitening=whitening).of(network)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, ""),
        ({"scale_power": 2.0}, "scale_power 3 (here 2)"),
        ({"scale_power": 2.98, "scales": (0.5001, 1.0)}, ""),
        ({"scale_power": 2.9}, "scale_power 3 (here 2.9)"),
        ({"scales": (1.0, 0.51)}, "scales 1 0.5 (here 1 0.51)"),
        ({"scales": (1.0, 0.5, 0.25)}, "scales 1 0.5 (here 1 0.5 0.25)"),
        ({"scales": (1.0, 0.25)}, "scales 1 0.5 (here 1 0.25)"),
        ({"scales": (1.0,), "scale_power": 1.0}, "scales 1 0.5 (here 1)"),
        ({"size": 128}, ""),  # the network's own
        ({"size": 96}, "size as the run measures (here 96)"),
    ],
)
def test_what_a_whitening_was_learned_with_otherwise_is_told(
    changes: dict[str, Any], told: str
) -> None:
    fit = Fit(side=128, resize="longest")
    whitening = Whitening(
        mean=torch.zeros(6), projection=torch.eye(6), scales=(1.0, 0.5), scale_power=3.0
    )
    same: dict[str, Any] = {"scales": (1.0, 0.5), "scale_power": 3.0, "whitening": whitening}
    assert Recipe(**{**same, **changes}).learned_otherwise(fit) == told
    unknown = replace(whitening, scales=())
    assert not Recipe(size=96, whitening=unknown).learned_otherwise(fit)


def test_a_whitening_learned_at_another_size_is_told() -> None:
    whitening = Whitening(mean=torch.zeros(6), projection=torch.eye(6), size=96, scales=(1.0,))
    fit = Fit(side=128, resize="longest")
    assert Recipe(size=96, whitening=whitening).learned_otherwise(fit) == ""
    told = Recipe(size=64, whitening=whitening).learned_otherwise(fit)
    assert told == "size 96 (here 64)"


def test_a_noted_recipe_is_read_whole() -> None:
    describing = {"size": 96, "scales": [1, 0.5], "scale_power": 3.0, "whiten": "", "dim": 5}
    expected = Recipe(size=96, scales=(1.0, 0.5), scale_power=3.0, dim=5)
    assert recipe_of(describing, "no run", 6) == expected
    with pytest.raises(ValueError, match="how descriptors were made is damaged"):
        recipe_of({**describing, "scales": None}, "no run", 6)


def test_what_a_recipe_changes_has_an_id_of_its_own(network: DescriptorNet) -> None:
    model = TrainedModel(network, Fit(side=32), "m1")
    assert prepared(model, Recipe()) is model
    larger = prepared(model, Recipe(size=64))
    assert larger.fit == Fit(side=64, resize="longest")
    twice = prepared(model, Recipe(scales=(1.0, 0.5)))
    assert torch.equal(twice.network(images()), Recipe(scales=(1.0, 0.5)).of(network)(images()))
    ids = {"m1", larger.model_id, twice.model_id}
    assert len(ids) == 3
    assert all(name.startswith("m1") for name in ids)
    other = Whitening(mean=torch.zeros(6), projection=torch.eye(6), model="m2")
    with pytest.raises(ValueError, match="m2"):
        prepared(model, Recipe(whitening=other))
