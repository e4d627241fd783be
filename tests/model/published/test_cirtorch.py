"""Checkpoints of cirtorch: meta, poolings, layers, whitenings; what they cannot be is refused."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from apdist.data.images import Fit, fitted, to_array
from apdist.model.backbones import build_backbone
from apdist.model.published.cirtorch import read_cirtorch
from apdist.model.published.published import Given, Published
from apdist.retrieval.recipe import Recipe
from tests import published_models as published

META = {
    "architecture": "resnet18",
    "pooling": "gem",
    "local_whitening": False,
    "regional": False,
    "whitening": False,
    "outputdim": 512,
}
PARTS = {"m": np.zeros((512, 1)), "P": np.eye(512)}
LEARNED = {"set": {"ss": PARTS, "ms": PARTS}}


def read(given: Given | None = None, num_exponents: int = 1, **meta: Any) -> Published:
    """What is read of a checkpoint with this ``meta``."""
    content = published.cirtorch_content(META | meta, num_exponents=num_exponents)
    return read_cirtorch("F", published.stored(content), given or Given())


def test_the_meta_becomes_our_options() -> None:
    config = read(whitening=True, local_whitening=True).config
    assert (config.backbone, config.pooling, config.dim) == ("resnet18", "gem", 512)
    assert config.norm_before_linear
    assert config.local_whitening
    assert config.norm_eps == 1e-6
    assert config.gem_p == pytest.approx(2.7)
    plain = read().config
    assert (plain.dim, plain.norm_before_linear, plain.local_whitening) == (0, False, False)


@pytest.mark.parametrize(("pooling", "ours"), [("mac", "max"), ("spoc", "mean"), ("rmac", "rmac")])
def test_poolings_have_our_names(pooling: str, ours: str) -> None:
    assert read(pooling=pooling).config.pooling == ours


def test_an_exponent_for_each_channel_describes_as_its_definition() -> None:
    model = read(num_exponents=512, pooling="gemmp")
    assert model.config.gem_per_channel
    maps = maps_of(model)
    p = model.state["pooling.p"].double()[:, None, None]
    pooled = maps.clamp(min=1e-6).pow(p).mean(dim=(2, 3)).pow(1 / p[:, 0, 0])
    torch.testing.assert_close(describe(model), unit(pooled), atol=1e-12, rtol=0)


def test_regions_are_pooled_whitened_and_added_as_by_its_definition() -> None:
    model = read(regional=True, whitening=True, pooling="gem")
    assert model.config.regional
    state = {name: value.double() for name, value in model.state.items()}
    maps = maps_of(model)
    # R-MAC's grid on 2 x 3, by hand: all of it, 1 x 2 squares of 2, 2 x 3 and 3 x 4 squares of 1.
    assert maps.shape[-2:] == (2, 3)
    parts = [maps, maps[..., :2], maps[..., 1:]]
    for rows, columns in (((0, 1), (0, 1, 2)), ((0, 0, 1), (0, 0, 1, 2))):
        parts += [maps[..., y : y + 1, x : x + 1] for y in rows for x in columns]
    p = state["pooling.pooling.p"]
    total = torch.zeros(2, 512, dtype=torch.float64)
    for part in parts:
        pooled = part.clamp(min=1e-6).pow(p).mean(dim=(2, 3)).pow(1 / p)
        weight, bias = state["pooling.linear.weight"], state["pooling.linear.bias"]
        total += unit(F.linear(unit(pooled), weight, bias))
    head = F.linear(unit(unit(total)), state["linear.weight"], state["linear.bias"])
    torch.testing.assert_close(describe(model), unit(head), atol=1e-12, rtol=0)


def unit(vectors: torch.Tensor) -> torch.Tensor:
    return vectors / (vectors.norm(dim=1, keepdim=True) + 1e-6)


def maps_of(model: Published) -> torch.Tensor:
    """Features of the images of the figures, in float64."""
    backbone, _ = build_backbone("resnet18")
    names = [name for name in model.state if name.startswith("backbone.")]
    backbone.double().load_state_dict(
        {name.removeprefix("backbone."): model.state[name] for name in names}
    )
    with torch.no_grad():
        found: torch.Tensor = backbone.eval()(published.images())
    return found


def describe(model: Published) -> torch.Tensor:
    network = model.network().double()
    network.load_state_dict(model.state)
    with torch.no_grad():
        found: torch.Tensor = network(published.images())
    return found


def test_whitenings_of_one_scale_and_of_several_have_names_of_their_own() -> None:
    random = np.random.default_rng(1)
    learned = {
        scales: {"m": random.standard_normal((512, 1)), "P": random.standard_normal((512, 512))}
        for scales in ("ss", "ms")
    }
    found = read(Lw={"retrieval-SfM-120k": learned}).whitenings
    assert list(found) == ["retrieval-SfM-120k", "retrieval-SfM-120k-ms"]
    x = torch.from_numpy(random.standard_normal((3, 512)))
    for name, scales in (("retrieval-SfM-120k", "ss"), ("retrieval-SfM-120k-ms", "ms")):
        # whitenapply, which has a descriptor in each column, and adds 1e-6 to lengths of 500.
        expected = learned[scales]["P"] @ (x.numpy().T - learned[scales]["m"])
        expected /= np.linalg.norm(expected, axis=0, keepdims=True) + 1e-6
        torch.testing.assert_close(found[name](x), torch.from_numpy(expected.T), atol=1e-8, rtol=0)
        assert found[name].learned_on == "retrieval-SfM-120k"


@pytest.mark.parametrize(
    ("meta", "num_exponents"),
    [({"whitening": True}, 1), ({"regional": True}, 1), ({"pooling": "gemmp"}, 512)],
)
def test_scales_are_averaged_plainly_behind_regions_a_whitening_layer_or_several_exponents(
    meta: dict[str, Any], num_exponents: int
) -> None:
    found = read(num_exponents=num_exponents, Lw=LEARNED, **meta).whitenings
    assert [learned.scale_power for learned in found.values()] == [1.0, 1.0]


def test_other_scales_or_another_exponent_than_a_whitening_was_learned_with_are_told() -> None:
    found = read(Lw=LEARNED).whitenings
    one, several = found["set"], found["set-ms"]
    assert (one.size, one.scales, one.scale_power) == (1024, (1.0,), 1.0)
    scales, others, plain = (1.0, 0.7071, 0.5), (1.0, 0.7071, 1.4142), (1.0,)
    fit = Fit(side=1024, resize="shrink", interpolation="lanczos")
    for whitening, used, power, told in (
        (several, scales, 2.7, ""),
        (several, scales, 1.0, "scale_power 2.7 (here 1)"),
        (several, others, 2.7, "scales 1 0.7071 0.5 (here 1 0.7071 1.4142)"),
        (several, plain, 1.0, "scales 1 0.7071 0.5 (here 1)"),
        (one, plain, 1.0, ""),
        (one, scales, 2.7, "scales 1 (here 1 0.7071 0.5)"),
    ):
        recipe = Recipe(whitening=whitening, scales=used, scale_power=power)
        assert recipe.learned_otherwise(fit) == told


@pytest.mark.parametrize("size", [(300, 200), (200, 301), (641, 480), (90, 60), (1600, 1067)])
def test_lanczos_makes_images_smaller_as_the_published_thumbnail_does(
    size: tuple[int, int],
) -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (size[1] // 4, size[0] // 4, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.NEAREST)
    found = fitted(image, Fit(side=128, resize="shrink", interpolation="lanczos"))
    # Without the blocks that Pillow averages first of images far larger.
    image.thumbnail((128, 128), Image.Resampling.LANCZOS, reducing_gap=None)
    np.testing.assert_array_equal(found, to_array(image))


def test_what_the_meta_leaves_open_is_asked_for() -> None:
    content = published.stored(published.cirtorch_content(META))
    for missing, option, given in (
        ("architecture", "--backbone", Given(backbone="resnet18")),
        ("pooling", "--pooling gem", Given(pooling="gem")),
        ("mean", "--pixel-mean", Given(pixel_mean=(0.5, 0.5, 0.5))),
        ("std", "--pixel-std", Given(pixel_std=(0.5, 0.5, 0.5))),
    ):
        meta = {name: value for name, value in content["meta"].items() if name != missing}
        with pytest.raises(ValueError, match=f"F does not say .*; give {option}"):
            read_cirtorch("F", content | {"meta": meta}, Given())
        assert read_cirtorch("F", content | {"meta": meta}, given).config.backbone == "resnet18"


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"architecture": "vgg16"}, "F is a vgg16, and apdist has"),
        ({"architecture": "resnet50"}, r"other parameters .* \d+ missing \(features\.4\.0\.conv3"),
        ({"pooling": "netvlad"}, "F pools by 'netvlad'; expected gem, gemmp, mac"),
        ({"pooling": "mac"}, r"1 unexpected \(pool\.p\)"),
        ({"whitening": True}, "says that it whitens, and has no whiten.weight"),
        ({"local_whitening": True}, r"2 missing \(lwhiten\.weight, lwhiten\.bias\)"),
        ({"regional": True}, "pools by gem and has no pool.rpool.p"),
        ({"mean": "grey"}, "F has 'grey' as pixel_mean, no numbers"),
        ({"Lw": 3}, "F has Lw that is no dict"),
        ({"Lw": {"set": {"xs": {}}}}, "F has Lw 'set' 'xs'; expected ss and ms"),
        ({"Lw": {"set": {"ss": {"m": 1, "P": 2}}}}, "F has 1 as m of Lw 'set' 'ss', no array"),
    ],
)
def test_what_it_cannot_be_is_refused(meta: dict[str, Any], message: str) -> None:
    content = published.stored(published.cirtorch_content(META))
    with pytest.raises(ValueError, match=message) as refused:
        read_cirtorch("F", content | {"meta": content["meta"] | meta}, Given())
    assert "\n" not in str(refused.value)


def test_a_whitening_whose_parts_do_not_fit_is_refused() -> None:
    content = published.stored(published.cirtorch_content(META))
    parts = published.stored({"m": np.zeros((3, 1)), "P": np.eye(4)})
    meta = content["meta"] | {"Lw": {"set": {"ms": parts}}}
    with pytest.raises(ValueError, match="Lw 'set' 'ms' of shapes that do not fit"):
        read_cirtorch("F", content | {"meta": meta}, Given())
    with pytest.raises(ValueError, match="F has a meta that is no dict"):
        read_cirtorch("F", content | {"meta": []}, Given())
