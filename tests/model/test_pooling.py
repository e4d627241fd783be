"""Pooling: its limits, the published code, and what does not go together."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.config import ModelConfig
from apdist.model.backbones import BasicBlock, ResNet
from apdist.model.pooling import (
    GeM,
    Regional,
    build_pooling,
    choose_pooling,
    regions_of,
    rmac,
    towards_centre,
    unit_length,
)
from apdist.model.traits import Features, Traits

CONVOLUTIONAL = Traits(num_channels=3)
SIGNED = Traits(num_channels=3, is_signed=True)
WITH_CLS = Traits(num_channels=3, is_signed=True, has_cls=True)
WITH_ATTENTION = Traits(num_channels=3, is_signed=True, has_attention=True)
# From cnnimageretrieval-pytorch's R-MAC and GeM on ResNet-18: weights and images by formula.
RMAC = [
    [0.004743314, 0.0938968871, 0.0065295058, 0.004306656],
    [0.0049291166, 0.0945012242, 0.0049750485, 0.0045145231],
]
GEM = [
    [0.0080087172, 0.0910747148, 0.0072443435, 0.0072346655],
    [0.0080142107, 0.0908423714, 0.0052049468, 0.0072780562],
]
RMAC_DOT, GEM_DOT = 0.9985570445, 0.9980938377  # their L2 adds 1e-6


def pooled(name: str, features: Features, **options: object) -> Tensor:
    pooling, width = build_pooling(name, ModelConfig(**options), 3)  # type: ignore[arg-type]
    found: Tensor = pooling(features)
    assert found.shape == (len(features.maps), width)
    return found


def published_maps() -> Tensor:
    """Features (2, 512, 2, 3) of the published ResNet-18, in its order of weights."""
    network = ResNet(BasicBlock, (2, 2, 2, 2)).double().eval()
    published = {"conv1": "0", "bn1": "1", **{f"layer{n}": f"{n + 3}" for n in (1, 2, 3, 4)}}
    state = network.state_dict()
    by_name = {}
    for name in state:
        first, _, rest = name.partition(".")
        by_name[f"features.{published[first]}.{rest}"] = name
    names = sorted(name for name in by_name if "num_batches" not in name)
    for number, name in enumerate(names):
        value = state[by_name[name]]
        k = torch.arange(value.numel(), dtype=torch.float64)
        w = torch.sin(1.7 * (k % 9973) + 0.31 * (k // 9973) + 0.7 * number).view(value.shape)
        if value.dim() > 1:
            w = w * (4 / (value.numel() / len(value))) ** 0.5
        elif name.endswith("running_var"):
            w = 1 + 0.2 * w
        else:
            w = 1 + 0.1 * w if name.endswith("weight") else 0.1 * w
        value.copy_(w)
    i, c, y, x = torch.meshgrid(*map(torch.arange, (2, 3, 64, 80)), indexing="ij")
    images = torch.sin(0.11 * y.double() * (1 + 0.3 * i) + 0.23 * x + c)
    images += 0.3 * torch.cos(0.05 * x.double() * y / (1 + i))
    with torch.no_grad():
        maps: Tensor = network(images)
    return maps


def test_gem_and_rmac_are_those_of_the_published_code() -> None:
    maps = published_maps()
    for found, figures, dot in (
        (rmac(maps), RMAC, RMAC_DOT),
        (GeM(p=2.7).double()(Features(maps)), GEM, GEM_DOT),
    ):
        descriptors = F.normalize(found, dim=1)
        expected = torch.tensor(figures, dtype=torch.float64)
        torch.testing.assert_close(descriptors[:, :4], expected, atol=1e-8, rtol=0)
        assert float((descriptors[0] @ descriptors[1]).detach()) == pytest.approx(dot, abs=1e-6)


def test_gem_with_p_1_is_the_mean() -> None:
    x = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(GeM(p=1.0)(Features(x)), x.mean(dim=(-2, -1)))


def test_gem_with_a_large_p_is_the_maximum() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64) + 0.5
    found = GeM(p=300.0)(Features(x))
    torch.testing.assert_close(found, x.amax(dim=(-2, -1)), rtol=2e-2, atol=0)


def test_gem_of_the_published_code() -> None:
    # Revaud et al.'s GeM (dirtorch), p = 3, on 0.1, 0.2, ..., 0.6 per channel, by hand:
    x = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], dtype=torch.float64).view(1, 1, 2, 3)
    expected = ((0.001 + 0.008 + 0.027 + 0.064 + 0.125 + 0.216) / 6) ** (1 / 3)
    assert GeM(p=3.0)(Features(x)).item() == pytest.approx(expected, rel=1e-6)


def test_each_channel_has_an_exponent_of_its_own_where_asked() -> None:
    x = torch.rand(2, 3, 4, 5)
    pooling, _ = build_pooling("gem", ModelConfig(gem_per_channel=True), 3)
    assert isinstance(pooling, GeM)
    assert pooling.p.shape == (3,)
    with torch.no_grad():
        pooling.p.copy_(torch.tensor([1.0, 3.0, 5.0]))
    for channel, p in enumerate((1.0, 3.0, 5.0)):
        expected = GeM(p)(Features(x))[:, channel]
        torch.testing.assert_close(pooling(Features(x))[:, channel], expected)


def test_gem_does_not_overflow_in_half_precision() -> None:
    x = torch.full((1, 1, 2, 2), 100.0, dtype=torch.float16)
    assert GeM(p=3.0)(Features(x)).isfinite().all()


@pytest.mark.parametrize("name", ["mean", "max", "cls", "cls+mean", "attention", "rmac"])
def test_each_pooling_is_its_definition_in_full_precision(name: str) -> None:
    features = Features(
        torch.randn(2, 3, 4, 4).half(), torch.randn(2, 3).half(), torch.randn(2, 3).half()
    )
    assert features.cls is not None
    assert features.attended is not None
    maps, cls = features.maps.float(), features.cls.float()
    expected = {
        "mean": maps.mean(dim=(2, 3)),
        "max": maps.flatten(2).max(dim=2).values,
        "cls": cls,
        "cls+mean": torch.cat([cls, maps.mean(dim=(2, 3))], dim=1),
        "attention": features.attended.float(),
        "rmac": rmac(maps),
    }[name]
    torch.testing.assert_close(pooled(name, features), expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # By hand from the definition: 14 x 14 has 1 + 4 + 9 regions.
        ((14, 14), 14),
        # Along 28 lie two more than along 14.
        ((14, 28), 1 * 3 + 2 * 4 + 3 * 5),
        ((28, 14), 1 * 3 + 2 * 4 + 3 * 5),
        ((1, 1), 1),
    ],
)
def test_regions_lie_inside_the_map_and_cover_it(size: tuple[int, int], expected: int) -> None:
    regions = regions_of(*size, 3)
    assert len(regions) == expected
    covered = torch.zeros(size)
    for top, left, side in regions:
        assert 0 <= top <= size[0] - side
        assert 0 <= left <= size[1] - side
        covered[top : top + side, left : left + side] = 1
    assert covered.all()


def test_regions_of_a_level_have_the_side_of_the_definition() -> None:
    # 2 x 14 / (l + 1), along 14 from one end to the other.
    assert regions_of(14, 14, 3) == [
        (0, 0, 14),
        *[(top, left, 9) for top in (0, 5) for left in (0, 5)],
        *[(top, left, 7) for top in (0, 3, 7) for left in (0, 3, 7)],
    ]


@pytest.mark.parametrize(
    ("long", "short"),
    # Ties of the overlap, starts that are whole numbers, and one of neither.
    [(9, 5), (18, 10), (36, 20), (33, 3), (44, 12), (47, 11), (62, 2), (61, 25), (64, 48)],
)
def test_regions_are_those_of_the_published_code_where_rounding_decides(
    long: int, short: int
) -> None:
    overlaps = (short**2 - short * ((long - short) / torch.arange(1.0, 7.0))) / short**2
    more = 1 + int((overlaps - 0.4).abs().min(dim=0).indices)
    expected = []
    for level in (1, 2, 3):
        size = 2 * short // (level + 1)
        half = size // 2 - 1

        def starts(length: int, count: int, size: int = size, half: int = half) -> list[int]:
            step = (length - size) / max(1, count - 1)
            return ((half + torch.arange(count).float() * step).floor() - half).int().tolist()

        across, down = starts(long, level + more), starts(short, level)
        expected += [(top, left, size) for top in down for left in across]
    assert regions_of(short, long, 3) == expected
    turned = regions_of(long, short, 3)
    assert sorted((left, top, size) for top, left, size in turned) == sorted(expected)


@pytest.mark.parametrize(
    ("traits", "auto"),
    [
        (CONVOLUTIONAL, "gem"),
        (SIGNED, "mean"),
        (WITH_CLS, "cls"),
        (WITH_ATTENTION, "attention"),
    ],
)
def test_auto_is_what_the_backbone_gives(traits: Traits, auto: str) -> None:
    assert choose_pooling(ModelConfig(), traits) == auto


@pytest.mark.parametrize(
    ("traits", "options", "message"),
    [
        (SIGNED, {"pooling": "gem"}, "signed: half of them would have no gradient; use mean"),
        (WITH_CLS, {"pooling": "gem"}, "would have no gradient; use cls .auto."),
        (CONVOLUTIONAL, {"pooling": "cls"}, "needs a backbone .* class token, .*; use gem"),
        (WITH_ATTENTION, {"pooling": "cls+mean"}, "class token, .*; use attention .auto."),
        (WITH_CLS, {"pooling": "attention"}, "attention pooling of its own"),
        (WITH_CLS, {"gem_per_channel": True}, "pooling auto is cls for hub:x; leave it out"),
    ],
)
def test_what_a_backbone_does_not_give_is_refused(
    traits: Traits, options: dict[str, object], message: str
) -> None:
    config = ModelConfig(backbone="hub:x", **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message) as refused:
        choose_pooling(config, traits)
    assert "\n" not in str(refused.value)


def test_the_middle_of_a_map_is_weighed_as_the_published_code_does() -> None:
    # 4 x 4 weights from corner to corner: of 7 positions each second is one of them.
    b = 0.5
    along = torch.tensor([0, 0.5, 1, 1, 1, 0.5, 0])
    weights = 1 + b * along[:, None] * along
    maps = torch.rand(2, 3, 7, 7)
    torch.testing.assert_close(towards_centre(maps, b), maps * weights)
    four = towards_centre(torch.ones(1, 1, 4, 4), 2.0)[0, 0]
    assert four.tolist() == [[1, 1, 1, 1], [1, 3, 3, 1], [1, 3, 3, 1], [1, 1, 1, 1]]


def test_a_length_is_one_but_for_what_is_added_to_it() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert unit_length(vectors).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    assert unit_length(vectors, 5.0).tolist() == [[pytest.approx(0.3), pytest.approx(0.4)], [0, 0]]


@pytest.mark.parametrize("pooling", ["rmac", "cls"])
def test_regions_are_pooled_by_what_pools_a_map(pooling: str) -> None:
    config = ModelConfig(backbone="hub:x", pooling=pooling, regional=True)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=f"regional pools regions by gem, .* {pooling} is {pooling}"
    ):
        choose_pooling(config, WITH_CLS)


def test_regions_and_the_whole_map_are_pooled_whitened_and_summed() -> None:
    config = ModelConfig(pooling="mean", regional=True)
    pooling, width = build_pooling("mean", config, 3)
    assert width == 3
    maps = torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))
    # R-MAC's regions of three sizes; whoever trained with them has them in the weights.
    parts = [maps, *(maps[..., y : y + n, x : x + n] for y, x, n in regions_of(9, 14, 3))]
    assert isinstance(pooling, Regional)
    expected = torch.zeros(2, 3)
    for part in parts:
        unit = F.normalize(part.mean(dim=(2, 3)), dim=1)
        expected += F.normalize(pooling.linear(unit), dim=1)
    torch.testing.assert_close(pooling(Features(maps)), F.normalize(expected, dim=1))
