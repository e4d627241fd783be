"""What a published file leaves open, says twice, or says otherwise than its parameters."""

import pytest
import torch

from apdist.config import ModelConfig
from apdist.model.published.published import (
    Given,
    Published,
    backbone_of,
    differences,
    fitted,
    matrix_of,
    named_tensors,
    numbers_of,
    pixels_of,
    refuse_told,
)
from apdist.model.traits import IMAGENET_MEAN, IMAGENET_STD
from apdist.model.whitening import Whitening
from tests import published_models as published

SMALL = ModelConfig(backbone="small", dim=4)
PREFIXES = (("p.", "pooling."), ("fc.", "linear."), ("", "backbone."))


def small_tensors() -> dict[str, torch.Tensor]:
    """A small network by the names of `PREFIXES`."""
    from apdist.model.descriptor import DescriptorNet

    found = {}
    for name, value in DescriptorNet(SMALL).state_dict().items():
        first, _, rest = name.partition(".")
        found[{"pooling": "p.", "linear": "fc.", "backbone": ""}[first] + rest] = value
    return found


def test_parameters_get_our_names_and_keep_their_numbers() -> None:
    tensors = small_tensors()
    state = fitted("F", Published(kind="", config=SMALL), tensors, PREFIXES).state
    assert torch.equal(state["linear.weight"], tensors["fc.weight"])
    assert torch.equal(state["pooling.p"], tensors["p.p"])
    assert torch.equal(state["backbone.layers.0.weight"], tensors["layers.0.weight"])
    assert len(state) == len(tensors)


def test_missing_unexpected_and_other_parameters_are_told_by_their_first_names() -> None:
    tensors = small_tensors() | {"one": torch.ones(1), "fc.bias": torch.ones(5)}
    for name in ("layers.0.weight", "layers.1.weight", "layers.1.bias"):
        del tensors[name]
    with pytest.raises(ValueError, match="F has other parameters than the small") as refused:
        fitted("F", Published(kind="", config=SMALL), tensors, PREFIXES)
    assert str(refused.value).endswith(
        "3 missing (layers.0.weight, layers.1.weight, ...); 1 unexpected (one); "
        "1 of another shape (fc.bias is (5,), not (4,))"
    )
    assert not differences({"a": torch.ones(2)}, {"a": torch.Size((2,))})


def test_a_counter_that_older_files_lack_is_no_parameter_that_is_missing() -> None:
    expected = {"bn.num_batches_tracked": torch.Size(()), "bn.weight": torch.Size((2,))}
    assert not differences({"bn.weight": torch.ones(2)}, expected)


def test_a_whitening_of_another_width_is_refused() -> None:
    whitening = Whitening(mean=torch.zeros(3), projection=torch.eye(3))
    model = Published(kind="", config=SMALL, whitenings={"set": whitening})
    with pytest.raises(
        ValueError, match="whitening 'set' of 3 numbers, and its descriptors have 4"
    ):
        fitted("F", model, small_tensors(), PREFIXES)


def test_the_file_or_a_person_says_the_backbone_and_not_both() -> None:
    assert backbone_of("F", "resnet50", Given()) == "resnet50"
    assert backbone_of("F", "", Given(backbone="resnet18")) == "resnet18"
    with pytest.raises(ValueError, match="does not say which network it is; give --backbone"):
        backbone_of("F", "", Given())
    with pytest.raises(ValueError, match="says that it is resnet50; leave --backbone resnet18 out"):
        backbone_of("F", "resnet50", Given(backbone="resnet18"))
    with pytest.raises(ValueError, match="F is a vgg16, and apdist has resnet18"):
        backbone_of("F", "vgg16", Given())


def test_pixel_statistics_are_kept_where_they_are_not_those_of_imagenet() -> None:
    assert pixels_of("F", list(IMAGENET_MEAN), list(IMAGENET_STD), Given()) == {}
    found = pixels_of("F", torch.full((3,), 0.5).tolist(), list(IMAGENET_STD), Given())
    assert found == {"pixel_mean": (0.5, 0.5, 0.5)}
    asked = Given(pixel_mean=(0.1, 0.2, 0.3), pixel_std=IMAGENET_STD)
    assert pixels_of("F", None, None, asked) == {"pixel_mean": (0.1, 0.2, 0.3)}
    with pytest.raises(ValueError, match="give --pixel-mean of red, green and blue"):
        pixels_of("F", None, IMAGENET_STD, Given())
    with pytest.raises(ValueError, match="its own pixel statistics; leave --pixel-std out"):
        pixels_of("F", IMAGENET_MEAN, IMAGENET_STD, Given(pixel_std=IMAGENET_STD))


def test_what_the_file_tells_is_not_told_again() -> None:
    refuse_told("F", Given(), "pooling", "gem_p")
    with pytest.raises(ValueError, match="F tells its gem p itself; leave --gem-p 3.5 out"):
        refuse_told("F", Given(gem_p=3.5), "pooling", "gem_p")


def test_numbers_are_taken_from_lists_arrays_and_tensors_and_from_nothing_else() -> None:
    stored = published.stored(torch.tensor([1.0, 2.0]))
    assert numbers_of("F", "x", stored) == numbers_of("F", "x", [1, 2.0]) == (1.0, 2.0)
    assert numbers_of("F", "x", 3) == (3.0,)
    for wrong in ("abc", None, ["a"], {"a": 1}):
        with pytest.raises(ValueError, match="F has .* as x, no numbers"):
            numbers_of("F", "x", wrong)
    assert matrix_of("F", "x", stored).dtype == torch.float64
    with pytest.raises(ValueError, match="F has 'a' as x, no array"):
        matrix_of("F", "x", "a")
    with pytest.raises(ValueError, match="F has NaN or infinity in x"):
        matrix_of("F", "x", published.stored(torch.tensor([torch.nan])))


def test_a_state_dict_that_is_none_is_refused() -> None:
    for state in ([], {}, None):
        with pytest.raises(ValueError, match="no parameters by their names"):
            named_tensors("F", state)
    with pytest.raises(ValueError, match="F has 'a' in its state_dict: 3; expected tensors"):
        named_tensors("F", {"a": 3})
    tensors = named_tensors("F", {"module.a.weight": published.stored(torch.ones(2))})
    assert list(tensors) == ["a.weight"]
    with pytest.raises(ValueError, match="F has NaN or infinity in b; get it again"):
        named_tensors("F", {"b": published.stored(torch.tensor([1.0, torch.inf]))})
