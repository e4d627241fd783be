"""Checkpoints of deep-image-retrieval (dirtorch): AP-GeM and its relatives.

Its network (``rmac_resnet.py``): backbone, centre bias, pooling, an L2 norm if ``norm_features``, a
linear layer unless ``without_fc``, L2. What a checkpoint leaves out has the published default.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from apdist.config import ModelConfig
from apdist.model.published.pickles import StoredPCA
from apdist.model.published.published import (
    Given,
    Published,
    backbone_of,
    fitted,
    matrix_of,
    named_tensors,
    numbers_of,
    pixels_of,
    pooling_of,
    refuse_told,
)
from apdist.model.traits import IMAGENET_MEAN, IMAGENET_STD
from apdist.model.whitening import Whitening, pca_whitening

_KIND = "AP-GeM checkpoint of dirtorch"
_ENDING = "_rmac"
"""Of the names of architectures; they pool no regions, whatever it says."""
_IDLE = frozenset({"out_dim", "gemp", "dropout_p", "pretrained", "scales"})
"""Options that change nothing where weights are there: the exponent is one of them."""
_READ = frozenset({"arch", "pooling", "norm_features", "without_fc", "center_bias"})
_PREFIXES = (("adpool.", "pooling."), ("fc.", "linear."), ("", "backbone."))


def read_dirtorch(name: str, content: dict[str, Any], given: Given) -> Published:
    """The model in a checkpoint of dirtorch.

    Raises:
        ValueError: it is another network than ours can be, or contradicts itself.
    """
    options = content["model_options"]
    if not isinstance(options, dict):
        raise ValueError(f"{name} has model_options that are no dict; get the file again")
    _refuse_unknown(name, options)
    refuse_told(name, given, "pooling", "gem_p")
    tensors = named_tensors(name, content["state_dict"])
    preprocess = content.get("preprocess", {"mean": IMAGENET_MEAN, "std": IMAGENET_STD})
    if not isinstance(preprocess, dict):
        raise ValueError(f"{name} has a preprocess that is no dict; get the file again")
    config = ModelConfig(
        backbone=backbone_of(name, _backbone(name, options), given),
        **pixels_of(name, preprocess.get("mean"), preprocess.get("std"), given),
        **_pooling(name, options, tensors),
        **_head(name, options, tensors),
    )
    whitenings = _whitenings(name, content.get("pca"), given)
    model = Published(kind=_KIND, config=config, whitenings=whitenings)
    # Without it the network keeps the layer and passes it by.
    unused = ("fc.",) if options.get("without_fc") else ()
    return fitted(name, model, tensors, _PREFIXES, unused)


def _refuse_unknown(name: str, options: Mapping[str, Any]) -> None:
    for option, value in options.items():
        if value and option not in _READ | _IDLE:
            raise ValueError(
                f"{name} has the model option {option} {value!r:.40}, which apdist's networks do "
                "not have: its descriptors would be others"
            )


def _backbone(name: str, options: Mapping[str, Any]) -> str:
    arch = str(options.get("arch", ""))
    if arch and not arch.endswith(_ENDING):
        raise ValueError(
            f"{name} says arch {arch!r}; of dirtorch apdist reads resnet18{_ENDING}, "
            f"resnet50{_ENDING} and resnet101{_ENDING}"
        )
    backbone = arch.removesuffix(_ENDING)
    if backbone.endswith("_fpn"):
        raise ValueError(f"{name} is a {arch}, a pyramid of features, which apdist does not have")
    return backbone


def _pooling(
    name: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    pooling = str(options.get("pooling", "gem"))
    (centre_bias,) = numbers_of(name, "center_bias", options.get("center_bias", 0))
    if pooling.startswith("gem"):
        return {"centre_bias": centre_bias} | pooling_of(name, tensors, "adpool.p")
    if pooling not in ("max", "avg"):
        raise ValueError(f"{name} pools by {pooling!r}; expected gem, max or avg of dirtorch")
    return {"centre_bias": centre_bias, "pooling": "max" if pooling == "max" else "mean"}


def _head(name: str, options: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of what comes after the pooling."""
    norms = bool(options.get("norm_features", False))
    if options.get("without_fc", False):
        # A second norm of a unit vector changes nothing.
        return {"dim": 0}
    if "fc.weight" not in tensors:
        raise ValueError(f"{name} has no fc.weight, and does not say without_fc; get it again")
    dim, told = len(tensors["fc.weight"]), options.get("out_dim")
    if told is not None and numbers_of(name, "out_dim", told) != (dim,):
        raise ValueError(f"{name} says out_dim {told}, and its fc.weight has {dim} rows")
    return {"dim": dim, "norm_before_linear": norms}


def _whitenings(name: str, pca: Any, given: Given) -> dict[str, Whitening]:
    """The PCAs of a file, by the name of the images that they were learned from."""
    if isinstance(pca, StoredPCA):
        if not given.learned_on:
            raise ValueError(
                f"{name} has a PCA and does not say which images it was learned from; give "
                "--learned-on NAME"
            )
        pca = {given.learned_on: pca}
    else:
        refuse_told(name, given, "learned_on")
    if pca is not None and not isinstance(pca, dict):
        raise ValueError(f"{name} has a pca that is neither a PCA nor a dict of them")
    return {str(own): _whitening(name, str(own), one, given) for own, one in (pca or {}).items()}


def _whitening(name: str, learned_on: str, pca: Any, given: Given) -> Whitening:
    """``transform`` of dirtorch's ``utils/common.py``: without ``whiten`` it only rotates."""
    if not isinstance(pca, StoredPCA):
        raise ValueError(f"{name} has something else than a PCA under pca {learned_on!r}")
    lacks = {"mean_", "components_", "explained_variance_"} - pca.attributes.keys()
    if lacks:
        raise ValueError(
            f"{name} has a PCA {learned_on!r} without {min(lacks)}: it learned nothing"
        )
    components = matrix_of(name, "components_", pca.attributes["components_"])
    variance = matrix_of(name, "explained_variance_", pca.attributes["explained_variance_"])
    mean = pca.attributes["mean_"]
    power = given.whiten_power if pca.attributes.get("whiten") else 0.0
    if power and not bool((variance > 0).all()):
        raise ValueError(
            f"{name} has a PCA {learned_on!r} with {int((variance <= 0).sum())} axes along which "
            "nothing varies, so that they cannot be whitened; give --whiten-power 0"
        )
    try:
        found = pca_whitening(
            torch.zeros(components.shape[-1]).double()
            if mean is None
            else matrix_of(name, "mean_", mean),
            components,
            variance,
            power=power,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{name} has a PCA {learned_on!r} of shapes that do not fit") from error
    return Whitening(mean=found.mean, projection=found.projection, learned_on=learned_on)
