"""Weights in and out: backbones from files, trained models as safetensors plus JSON.

No file is ever unpickled without ``weights_only``.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from apdist.config import Config, ModelConfig, override
from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.given_images import Given
from apdist.data.images import Fit
from apdist.given import Place, of_kind, place_of
from apdist.model.describing import describe_given
from apdist.model.descriptor import DescriptorNet
from apdist.model.hub import HubBackbone

WEIGHTS_NAME = "model.safetensors"
DESCRIPTION_NAME = "model.json"
_BACKBONE = "backbone."


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A network and what is needed to feed it."""

    network: nn.Module
    """Images (b, 3, h, w) to descriptors (b, d): a `DescriptorNet`, or one with a recipe."""
    fit: Fit
    """How images are brought to it."""
    model_id: str
    """Short hash of what makes its descriptors: an index built with others is refused."""

    def describe(self, images: Given | Iterable[Given]) -> Tensor:
        """Descriptors (n, d) of pictures, on the CPU, batch by batch where the network lies.

        Args:
            images: one or many: a path or an address, encoded bytes, a PIL image, or an array
                (h, w, 3) of uint8; of a generator no more than two batches are in memory.

        Raises:
            ValueError: there are none, or one is none or cannot be read.
        """
        return describe_given(self.network, self.fit, images)


def build_model(config: ModelConfig) -> DescriptorNet:
    """A network for training, with backbone weights from ``config.weights`` if given.

    Raises:
        ValueError: a package, a model or a file is missing, or options do not fit the backbone.
    """
    of_kind("config", config, ModelConfig, 'use ModelConfig(backbone="resnet50")')
    network = DescriptorNet(config)
    width = getattr(network.linear, "in_features", config.dim)
    if config.init != "random" and config.dim > width:
        raise ValueError(
            f"model.init {config.init} gives at most the {width} dimensions that "
            f"{config.backbone} has before the linear layer, got model.dim {config.dim}; use "
            f"{width} or fewer"
        )
    if config.weights:
        load_backbone(network, config.weights)
    return network


def load_backbone(network: DescriptorNet, uri: str) -> None:
    """Load backbone weights with torchvision's names; a classifier in the file is passed over.

    Of the model.safetensors of a run pooling and linear layer are loaded, too, if both have them.

    Raises:
        ValueError: the file cannot be read safely, lacks a parameter, or has one of another shape.
    """
    found = read_weights(uri)
    is_of_run = any(name.startswith(_BACKBONE) for name in found)
    state = {k if is_of_run else _BACKBONE + k: v for k, v in found.items()}
    own = network.state_dict()
    missing = sorted(k for k in own if k.startswith(_BACKBONE) and k not in state)
    wrong = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
    if missing or wrong:
        names = [k if is_of_run else k.removeprefix(_BACKBONE) for k in (*missing[:2], *wrong[:2])]
        raise ValueError(
            f"{storage.shown(uri)} does not fit model.backbone {network.config.backbone}: "
            f"{len(missing)} parameters missing {names[: len(missing[:2])]}, {len(wrong)} of "
            f"another shape {names[len(missing[:2]) :]}; use weights of that network with "
            "torchvision's names, or of a run with these options of model"
        )
    network.load_state_dict(own | {k: state[k] for k in own.keys() & state.keys()})


def read_weights(uri: str) -> dict[str, Tensor]:
    """Tensors of a .safetensors or .pth file.

    Raises:
        ValueError: neither, or a pickle that holds more than tensors.
    """
    data = storage.read_bytes(uri)
    try:
        if uri.endswith(".safetensors"):
            state: Any = load(data)
        else:
            state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle or zip raises whatever its bytes lead to
        raise ValueError(
            f"{storage.shown(uri)} holds no weights: expected a state dict, as .safetensors or as "
            ".pth of plain tensors, found no such content; give another --model.weights"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise ValueError(
            f"{storage.shown(uri)} holds a {type(state).__name__}, no parameters by name; save "
            "state_dict()"
        )
    return {str(k).removeprefix("module."): v for k, v in state.items() if isinstance(v, Tensor)}


def save_model(
    network: DescriptorNet,
    state: dict[str, Tensor],
    fit: Fit,
    folder: str,
    about: dict[str, float | str] | None = None,
) -> str:
    """Write weights and description of ``network``; returns the model's id.

    ``folder`` then holds all that loading needs: of a backbone of the hub its architecture, too.

    Args:
        network: whose weights these are.
        state: its weights, adapters merged into them.
        fit: how images are brought to it.
        folder: URI.
        about: which weights these are, for a person who reads the description.
    """
    data = save({k: v.detach().cpu().contiguous() for k, v in state.items()})
    model_id = hashlib.sha256(data).hexdigest()[:12]
    backbone, config = network.backbone, dataclasses.asdict(network.config)
    description = {
        "format": 2,
        "model_id": model_id,
        "image_size": fit.side,
        "resize": fit.resize,
        "interpolation": fit.interpolation,
        "model": config | {"weights": "", "pooling": network.pooling_name},
        "backbone": backbone.description() if isinstance(backbone, HubBackbone) else None,
        "weights": about or {},
    }
    storage.write_bytes(storage.join(folder, WEIGHTS_NAME), data)
    storage.write_bytes(
        storage.join(folder, DESCRIPTION_NAME), json.dumps(description, indent=2).encode()
    )
    return model_id


def load_model(folder: Place) -> TrainedModel:
    """The trained model in the folder of a run or of a hub's export, ready to describe images.

    Args:
        folder: local, or s3://BUCKET/PREFIX.

    Raises:
        ValueError: there is no model in ``folder``, or its files are damaged.
    """
    folder = place_of("folder", folder)
    uri = storage.join(folder, DESCRIPTION_NAME)
    if not storage.exists(uri):
        raise ValueError(f"{folder} holds no trained model ({DESCRIPTION_NAME} is missing)")
    data = storage.read_bytes(storage.join(folder, WEIGHTS_NAME))
    try:
        description = read_json(storage.read_bytes(uri))
        options = {f"model.{name}": value for name, value in description["model"].items()}
        told = str(description["model_id"])
        network = DescriptorNet(override(Config(), options).model, description["backbone"])
        network.load_state_dict(load(data))
        fit = network.fit(int(description["image_size"]), description["resize"])
        fit = dataclasses.replace(fit, interpolation=description["interpolation"])
    except Exception as error:  # both files may hold anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"the model in {folder} is damaged or of another version ({reason}); train it again"
        ) from error
    model_id = hashlib.sha256(data).hexdigest()[:12]
    if model_id != told:
        raise ValueError(
            f"{folder} mixes two models: {DESCRIPTION_NAME} describes {told}, {WEIGHTS_NAME} holds "
            f"{model_id}; bring both files of one model there"
        )
    return TrainedModel(network=network.eval(), fit=fit, model_id=model_id)
