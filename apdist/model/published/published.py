"""A published model as a network of ours: its options, its weights by our names, its whitenings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from apdist.config import ModelConfig
from apdist.config.model import BACKBONES
from apdist.config.values import shown
from apdist.model.descriptor import DescriptorNet
from apdist.model.published.pickles import StoredArray, StoredTensor
from apdist.model.traits import IMAGENET_MEAN, IMAGENET_STD
from apdist.model.whitening import Whitening

RESNETS = tuple(name for name in BACKBONES if name.startswith("resnet"))
_SHOWN = 2
_UNTRAINED = "num_batches_tracked"
"""Batch norm counts its batches since torch 0.4.1; nothing that describes images reads it."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a person says that the file may leave open; empty or 0: nothing."""

    backbone: str = ""
    pooling: str = ""
    gem_p: float = 0.0
    pixel_mean: tuple[float, ...] = ()
    pixel_std: tuple[float, ...] = ()
    whiten_power: float = 0.25
    learned_on: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published model."""

    kind: str
    """Which code wrote the file."""
    config: ModelConfig
    state: dict[str, Tensor] = field(default_factory=dict)
    """Weights by the names that `DescriptorNet` has for them, as precise as the file has them."""
    whitenings: dict[str, Whitening] = field(default_factory=dict)
    """Whitenings that the file holds, by name."""
    interpolation: str = "bicubic"
    """How the published code resizes images: a name of Pillow's filters."""

    def network(self) -> DescriptorNet:
        """The network with these weights, ready to describe images."""
        network = DescriptorNet(self.config)
        network.load_state_dict(self.state)
        return network.eval()


def named_tensors(name: str, state: Any) -> dict[str, Tensor]:
    """The tensors of a state dict in the file ``name``, without what DataParallel adds to names.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(state, dict) or not state:
        raise ValueError(
            f"{name} has a state_dict that is {_shown(state)}, no parameters by their names"
        )
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, StoredTensor):
            raise ValueError(
                f"{name} has {key!r:.80} in its state_dict: {_shown(value)}; expected tensors by "
                "the names of parameters: save the network's state_dict alone"
            )
    return {key.removeprefix("module."): _read(name, key, value) for key, value in state.items()}


def fitted(
    name: str,
    model: Published,
    tensors: Mapping[str, Tensor],
    prefixes: Sequence[tuple[str, str]],
    unused: Sequence[str] = (),
) -> Published:
    """``model`` with ``tensors`` as its weights, by the names of our network.

    Args:
        name: of the file, for messages.
        model: without weights.
        tensors: by the names in the file.
        prefixes: how names begin there, and here; of several that fit the first counts.
        unused: how names begin that the published code would not use either.

    Raises:
        ValueError: they are not those of this network; names the first in the words of the file. Or
            a whitening is for descriptors of another size.
    """
    with torch.device("meta"):
        network = DescriptorNet(model.config)
    expected = {key: value.shape for key, value in network.state_dict().items()}
    ours = {_begun(key, [(own, theirs) for theirs, own in prefixes]): key for key in expected}
    found = {key: value for key, value in tensors.items() if not key.startswith(tuple(unused))}
    if wrong := differences(found, {key: expected[own] for key, own in ours.items()}):
        raise ValueError(
            f"{name} has other parameters than the {model.config.backbone} that it says it is: "
            f"{wrong}"
        )
    for whitening_name, whitening in model.whitenings.items():
        if len(whitening.mean) != network.dim:
            raise ValueError(
                f"{name} has a whitening {whitening_name!r} of {len(whitening.mean)} numbers, and "
                f"its descriptors have {network.dim}"
            )
    state = {
        own: found[key] if key in found else torch.zeros(expected[own], dtype=torch.int64)
        for key, own in ours.items()
    }
    return replace(model, state=state)


def differences(found: Mapping[str, Tensor], expected: Mapping[str, torch.Size]) -> str:
    """What is missing, unexpected or of another shape: counts and first names; empty: nothing."""
    missing = [key for key in expected if key not in found and not key.endswith(_UNTRAINED)]
    unexpected = [key for key in found if key not in expected]
    other = [
        f"{key} is {tuple(found[key].shape)}, not {tuple(shape)}"
        for key, shape in expected.items()
        if key in found and found[key].shape != shape
    ]
    counted = [
        _counted(missing, "missing"),
        _counted(unexpected, "unexpected"),
        _counted(other, "of another shape"),
    ]
    return "; ".join(text for text in counted if text)


def pooling_of(name: str, tensors: Mapping[str, Tensor], exponent: str) -> dict[str, Any]:
    """Options of GeM, whose exponents the file ``name`` has as the parameter ``exponent``.

    Raises:
        ValueError: it has none.
    """
    if exponent not in tensors:
        raise ValueError(f"{name} pools by gem and has no {exponent}, its exponent")
    found = tensors[exponent].flatten()
    return {
        "pooling": "gem",
        "gem_p": float(found.double().mean()),
        "gem_per_channel": len(found) > 1,
    }


def refuse_told(name: str, given: Given, *options: str) -> None:
    """Raise unless a person gave none of ``options``, which the file ``name`` tells.

    Raises:
        ValueError: one was given.
    """
    for option in options:
        if value := getattr(given, option):
            raise ValueError(
                f"{name} tells its {option.replace('_', ' ')} itself; leave "
                f"--{option.replace('_', '-')} {shown(value)} out"
            )


def backbone_of(name: str, told: str, given: Given) -> str:
    """The backbone that the file ``name`` tells, or a person.

    Raises:
        ValueError: nobody does, both do, or there is none of that name.
    """
    if told and given.backbone and told != given.backbone:
        raise ValueError(f"{name} says that it is {told}; leave --backbone {given.backbone} out")
    backbone = told or given.backbone
    if not backbone:
        raise ValueError(
            f"{name} does not say which network it is; give --backbone {', '.join(RESNETS)}"
        )
    if backbone not in RESNETS:
        raise ValueError(
            f"{name} is a {backbone}, and apdist has {', '.join(RESNETS)} of published models"
        )
    return backbone


def pixels_of(name: str, mean: Any, std: Any, given: Given) -> dict[str, Any]:
    """Options of the pixels; none where they are ImageNet's.

    Raises:
        ValueError: the file ``name`` and a person tell them, nobody does, or they are no numbers.
    """
    found = {}
    for option, told, typed, usual in (
        ("pixel_mean", mean, given.pixel_mean, IMAGENET_MEAN),
        ("pixel_std", std, given.pixel_std, IMAGENET_STD),
    ):
        flag = f"--{option.replace('_', '-')}"
        if told is not None and typed:
            raise ValueError(f"{name} has its own pixel statistics; leave {flag} out")
        if told is None and not typed:
            raise ValueError(
                f"{name} does not say how its pixels are normalised; give {flag} of red, green and "
                f"blue: {flag} {' '.join(map(str, usual))} are those of ImageNet"
            )
        values = numbers_of(name, option, typed if told is None else told)
        if values != usual:
            found[option] = values
    return found


def numbers_of(name: str, what: str, value: Any) -> tuple[float, ...]:
    """Numbers that the file ``name`` keeps as a list, array or tensor.

    Raises:
        ValueError: they are none.
    """
    if isinstance(value, StoredTensor | StoredArray):
        value = _read(name, what, value).flatten().tolist()
    if isinstance(value, bool | int | float):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(v, int | float) for v in value):
        raise ValueError(f"{name} has {_shown(value)} as {what}, no numbers")
    return tuple(map(float, value))


def matrix_of(name: str, what: str, value: Any) -> Tensor:
    """Numbers in float64 that the file ``name`` keeps as an array or tensor.

    Raises:
        ValueError: they are none, or not finite.
    """
    if not isinstance(value, StoredTensor | StoredArray):
        raise ValueError(f"{name} has {_shown(value)} as {what}, no array")
    return _read(name, what, value).double()


def _read(name: str, what: str, value: StoredTensor | StoredArray) -> Tensor:
    try:
        found = value.tensor()
    except Exception as error:  # a damaged archive fails with whatever its bytes lead to
        raise ValueError(f"{name} is cut or damaged, at {what} ({error}); get it again") from error
    if found.is_floating_point() and not found.isfinite().all():
        raise ValueError(f"{name} has NaN or infinity in {what}; get it again, or train it anew")
    return found


def _begun(key: str, prefixes: Sequence[tuple[str, str]]) -> str:
    """``key`` with another beginning."""
    before, after = next(pair for pair in prefixes if key.startswith(pair[0]))
    return after + key.removeprefix(before)


def _counted(names: Sequence[str], what: str) -> str:
    """``2 missing (a, b)``; empty where there are none."""
    more = ", ..." if len(names) > _SHOWN else ""
    return f"{len(names)} {what} ({', '.join(names[:_SHOWN])}{more})" if names else ""


def _shown(value: Any) -> str:
    if isinstance(value, StoredTensor):
        return "a tensor"
    return (
        f"a {type(value).__name__}" if isinstance(value, dict | list | tuple) else f"{value!r:.40}"
    )
