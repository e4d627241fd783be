"""Checkpoints of dirtorch: options, poolings, whitenings; what they cannot be is refused."""

import json
from typing import Any

import pytest
import torch

from apdist.model.published.dirtorch import read_dirtorch
from apdist.model.published.published import Given, Published
from tests import published_models as published
from tests.places import ROOT

RESNET = {"arch": "resnet18_rmac"}
CASES = json.loads((ROOT / "tests" / "cases" / "published_models.json").read_text())["cases"]


def read(options: dict[str, Any], given: Given | None = None, **more: Any) -> Published:
    """What is read of a checkpoint with these ``options`` and further contents."""
    content = published.dirtorch_content(RESNET | options, **more)
    return read_dirtorch("F", published.stored(content), given or Given())


def test_the_options_become_ours() -> None:
    config = read({"norm_features": True, "center_bias": 0.5, "gemp": 3, "dropout_p": 0.1}).config
    assert (config.backbone, config.pooling, config.dim) == ("resnet18", "gem", 2048)
    assert config.norm_before_linear
    assert config.centre_bias == 0.5
    # The exponent is that of the weights, whatever the option says that it began with.
    assert config.gem_p == pytest.approx(2.7)
    assert not config.gem_per_channel
    assert config.norm_eps == 0


@pytest.mark.parametrize(("pooling", "ours"), [("max", "max"), ("avg", "mean"), ("gemp", "gem")])
def test_poolings_have_our_names(pooling: str, ours: str) -> None:
    assert read({"pooling": pooling}).config.pooling == ours


def test_an_exponent_for_each_channel_is_kept() -> None:
    model = read({}, num_exponents=512)
    assert model.config.gem_per_channel
    assert model.state["pooling.p"].shape == (512,)


def test_the_linear_layer_that_is_passed_by_is_left_out() -> None:
    model = read({"without_fc": True, "norm_features": True})
    assert model.config.dim == 0
    assert not [name for name in model.state if name.startswith("linear")]


def test_names_of_data_parallel_and_numbers_as_tensors_are_read() -> None:
    content = published.dirtorch_content(RESNET | {"center_bias": torch.tensor(0.25)})
    state = {f"module.{name}": value for name, value in content["state_dict"].items()}
    content = published.stored(content | {"state_dict": state})
    assert read_dirtorch("F", content, Given()).config.centre_bias == 0.25


def test_without_its_own_statistics_the_pixels_are_those_of_imagenet() -> None:
    content = published.stored(published.dirtorch_content(RESNET))
    assert read_dirtorch("F", content, Given()).config.pixel_std == (1.0, 1.0, 1.0)
    del content["preprocess"]
    assert read_dirtorch("F", content, Given()).config.pixel_mean == ()


@pytest.mark.parametrize("case", [c for c in CASES if "components" in c], ids=lambda c: c["id"])
def test_a_pca_whitens_as_the_published_code_does(case: dict[str, Any]) -> None:
    power = float(case["id"].split()[3])
    j = torch.arange(16, dtype=torch.float64)
    parts = [torch.tensor(case[name], dtype=torch.float64) for name in ("components", "variance")]
    pca = published.PCA((0.1 * j.sin()).numpy(), *(part.numpy() for part in parts))
    model = read({}, Given(whiten_power=power), out_dim=16, pca={"Landmarks_clean": pca})
    whitening = model.whitenings["Landmarks_clean"]
    assert whitening.learned_on == "Landmarks_clean"
    images = torch.sin(0.9 * torch.arange(48, dtype=torch.float64)).view(3, 16)
    expected = torch.tensor(case["output"], dtype=torch.float64)
    torch.testing.assert_close(whitening(images), expected, atol=1e-9, rtol=0)


def test_a_pca_that_does_not_whiten_only_rotates_and_one_without_a_mean_has_zero() -> None:
    pca = published.a_pca(2048, 5, whiten=False)
    pca.mean_ = None
    found = read({}, pca={"set": pca}).whitenings["set"]
    assert torch.equal(found.projection, torch.from_numpy(pca.components_).double())
    assert not found.mean.any()


def test_a_single_pca_needs_the_name_of_its_images() -> None:
    pca = published.a_pca(2048, 5)
    with pytest.raises(ValueError, match="which images it was learned from; give --learned-on"):
        read({}, pca=pca)
    assert list(read({}, Given(learned_on="mine"), pca=pca).whitenings) == ["mine"]


def broken_pca(**changes: Any) -> published.PCA:
    pca = published.a_pca(2048, 5)
    vars(pca).update(changes)
    return pca


def unlearned() -> published.PCA:
    pca = published.a_pca(2048, 5)
    del pca.components_
    return pca


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"arch": "senet154"}, {}, "F says arch 'senet154'; of dirtorch apdist reads"),
    ({"arch": "resnet18_fpn_rmac"}, {}, "a pyramid of features"),
    ({"arch": "resnet152x_rmac"}, {}, "F is a resnet152x, and apdist has"),
    ({"pooling": "netvlad"}, {}, "F pools by 'netvlad'; expected gem, max or avg"),
    ({"attention": 2}, {}, "F has the model option attention 2, which apdist's networks do not"),
    ({"out_dim": 512}, {}, "F says out_dim 512, and its fc.weight has 2048 rows"),
    ({"center_bias": "much"}, {}, "F has 'much' as center_bias, no numbers"),
    ({"center_bias": -1}, {}, "model.centre_bias must lie in"),
    ({}, {"preprocess": {"mean": [123, 117, 104], "std": [1, 1, 1]}}, "divide what is meant for"),
    (
        {},
        {"preprocess": {"mean": [0.5, 0.5, 0.5]}},
        "how its pixels are normalised; give --pixel-std",
    ),
    ({}, {"preprocess": 3}, "F has a preprocess that is no dict"),
    ({}, {"pca": {"set": published.a_pca(8, 4)}}, "whitening 'set' of 8 numbers, and its descript"),
    ({}, {"pca": {"set": unlearned()}}, "a PCA 'set' without components_: it learned nothing"),
    ({}, {"pca": {"set": 3}}, "something else than a PCA under pca 'set'"),
    ({}, {"pca": "x"}, "a pca that is neither a PCA nor a dict"),
    (
        {},
        {"pca": {"set": broken_pca(explained_variance_=published.np.zeros(5))}},
        "5 axes along which nothing varies",
    ),
    (
        {},
        {"pca": {"set": broken_pca(mean_=published.np.zeros(4))}},
        "a PCA 'set' of shapes that do not fit",
    ),
]


@pytest.mark.parametrize(("options", "more", "message"), REFUSED, ids=[r[2] for r in REFUSED])
def test_what_it_cannot_be_is_refused(
    options: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    content = published.stored(published.dirtorch_content(RESNET) | more)
    content["model_options"] = RESNET | options
    with pytest.raises(ValueError, match=message.replace("(", r"\(")) as refused:
        read_dirtorch("F", content, Given())
    assert "\n" not in str(refused.value)


def test_options_and_parameters_that_do_not_belong_together_are_refused() -> None:
    content = published.stored(published.dirtorch_content(RESNET))
    for options, message in (
        ({"arch": "resnet50_rmac"}, "F has other parameters than the resnet50 .* missing .layer1"),
        ({"pooling": "max"}, r"1 unexpected \(adpool.p\)"),
    ):
        with pytest.raises(ValueError, match=message):
            read_dirtorch("F", content | {"model_options": RESNET | options}, Given())
    for name, message in (
        ("fc.weight", "no fc.weight, and does not say without_fc"),
        ("adpool.p", "pools by gem and has no adpool.p"),
        ("layer4.1.conv2.weight", r"1 missing \(layer4.1.conv2.weight\)"),
    ):
        state = {key: value for key, value in content["state_dict"].items() if key != name}
        with pytest.raises(ValueError, match=message):
            read_dirtorch("F", content | {"state_dict": state}, Given())
    with pytest.raises(ValueError, match="tells its pooling itself; leave --pooling gem out"):
        read_dirtorch("F", content, Given(pooling="gem"))
    with pytest.raises(ValueError, match="model_options that are no dict"):
        read_dirtorch("F", content | {"model_options": []}, Given())
