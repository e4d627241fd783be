"""Checkpoints of cnnimageretrieval-pytorch (cirtorch): what a state_dict is of, stands in ``meta``.

Its network (``imageretrievalnet.py``): backbone, a linear layer at each position if
``local_whitening``, pooling (of regions, if ``regional``), an L2 norm, and if ``whitening`` a
linear layer with another L2 norm. Its norms divide by the length + 1e-6.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from apdist.config import ModelConfig
from apdist.model.published.published import (
    Given,
    Published,
    backbone_of,
    fitted,
    matrix_of,
    named_tensors,
    pixels_of,
    pooling_of,
    refuse_told,
)
from apdist.model.whitening import Whitening

_KIND = "cirtorch checkpoint"
_POOLINGS = {"gem": "gem", "gemmp": "gem", "mac": "max", "spoc": "mean", "rmac": "rmac"}
_NORM_EPS = 1e-6
_PREFIXES = (
    ("features.0.", "backbone.conv1."),
    ("features.1.", "backbone.bn1."),
    *((f"features.{stage + 3}.", f"backbone.layer{stage}.") for stage in (1, 2, 3, 4)),
    ("lwhiten.", "local."),
    ("whiten.", "linear."),
)
_POOLING = ("pool.", "pooling.")
_REGIONAL = (("pool.rpool.", "pooling.pooling."), ("pool.whiten.", "pooling.linear."))
_NAMES = {"ss": "", "ms": "-ms"}
"""What is added to the name of a whitening that was learned at one scale, and at several."""
_SCALES = {"ss": (1.0,), "ms": (1.0, 0.7071, 0.5)}
"""These scales, as a person gives them: those of the first release, with which ``Lw`` was published
(``[1, 1/2**(1/2), 1/2]`` in the README since). A checkpoint does not say them."""
_SIZE = 1024
"""Of the images that ``Lw`` was learned from: the default of ``test.py``."""
_INTERPOLATION = "lanczos"
"""Of ``imresize``: Pillow's thumbnail by ANTIALIAS."""


def read_cirtorch(name: str, content: dict[str, Any], given: Given) -> Published:
    """The model in a checkpoint of cirtorch.

    Raises:
        ValueError: it is another network than ours can be, or contradicts itself.
    """
    meta = content["meta"]
    if not isinstance(meta, dict):
        raise ValueError(f"{name} has a meta that is no dict; get the file again")
    tensors = named_tensors(name, content["state_dict"])
    regional = bool(meta.get("regional", False))
    config = ModelConfig(
        backbone=backbone_of(name, str(meta.get("architecture", "")), given),
        norm_eps=_NORM_EPS,
        local_whitening=bool(meta.get("local_whitening", False)),
        regional=regional,
        **pixels_of(name, meta.get("mean"), meta.get("std"), given),
        **_pooling(name, meta, tensors, given),
        **_head(name, meta, tensors),
    )
    refuse_told(name, given, "learned_on")
    model = Published(
        kind=_KIND,
        config=config,
        whitenings=_whitenings(name, meta.get("Lw"), _scale_power(meta, config)),
        interpolation=_INTERPOLATION,
    )
    return fitted(name, model, tensors, (*_PREFIXES, *(_REGIONAL if regional else (_POOLING,))))


def _pooling(
    name: str, meta: Mapping[str, Any], tensors: Mapping[str, Tensor], given: Given
) -> dict[str, Any]:
    told = str(meta.get("pooling", ""))
    if told:
        refuse_told(name, given, "pooling")
    elif not given.pooling:
        raise ValueError(f"{name} does not say how it pools; give --pooling gem, max, mean or rmac")
    pooling = _POOLINGS.get(told) if told else given.pooling
    if pooling is None:
        raise ValueError(f"{name} pools by {told!r}; expected {', '.join(_POOLINGS)} of cirtorch")
    refuse_told(name, given, "gem_p")
    if pooling != "gem":
        return {"pooling": pooling}
    return pooling_of(name, tensors, "pool.rpool.p" if meta.get("regional") else "pool.p")


def _head(name: str, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of what comes after the pooling."""
    if not meta.get("whitening", False):
        return {"dim": 0}
    if "whiten.weight" not in tensors:
        raise ValueError(f"{name} says that it whitens, and has no whiten.weight; get it again")
    return {"dim": len(tensors["whiten.weight"]), "norm_before_linear": True}


def _scale_power(meta: Mapping[str, Any], config: ModelConfig) -> float:
    """Exponent of the mean over scales: GeM's, unless regions or a whitening layer follow.

    ``Lw`` comes after the mean, and changes nothing of it.
    """
    if meta.get("pooling") != "gem" or config.regional or config.dim:
        return 1.0
    return float(f"{config.gem_p:.4g}")  # as `apdist convert` shows it, and a person gives it


def _whitenings(name: str, learned: Any, scale_power: float) -> dict[str, Whitening]:
    """``Lw``: by the name of the images, at one scale and at several: P (x - m), L2."""
    found = {}
    for learned_on, by_scales in _items(name, "Lw", learned):
        for scales, parts in _items(name, f"Lw {learned_on!r}", by_scales):
            what = f"Lw {learned_on!r} {scales!r}"
            if scales not in _NAMES or not isinstance(parts, dict) or not {"m", "P"} <= set(parts):
                raise ValueError(f"{name} has {what}; expected ss and ms, each with m and P")
            mean = matrix_of(name, f"m of {what}", parts["m"]).flatten()
            projection = matrix_of(name, f"P of {what}", parts["P"])
            try:
                whitening = Whitening(
                    mean=mean,
                    projection=projection,
                    learned_on=str(learned_on),
                    size=_SIZE,
                    scales=_SCALES[scales],
                    scale_power=scale_power if scales == "ms" else 1.0,
                )
            except ValueError as error:
                raise ValueError(f"{name} has {what} of shapes that do not fit") from error
            found[f"{learned_on}{_NAMES[scales]}"] = whitening
    return found


def _items(name: str, what: str, value: Any) -> list[tuple[Any, Any]]:
    if value is not None and not isinstance(value, dict):
        raise ValueError(f"{name} has {what} that is no dict; get the file again")
    return list((value or {}).items())
