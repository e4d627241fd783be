"""Backbones of `transformers`: from the hub, from a folder, or from what a trained model says.

Shapes: b images, c channels, h x w positions, t tokens of an image.
"""

import inspect
import math
from dataclasses import asdict, replace
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from apdist.config.extras import install
from apdist.model.preprocessing import Pixels, read_pixels
from apdist.model.traits import Features, Traits, refuse_side

PREFIX = "hub:"
# Their last hidden state is that before the final norm, which only their class token goes through.
_NORM_IS_LEFT = (
    *("clip_vision_model", "metaclip_2_vision_model", "chinese_clip_vision_model"),
    *("altclip_vision_model", "clipseg_vision_model"),
)
# Their final norm is that of the mean, which is taken here without it.
_NORM_OF_MEAN = ("convnext", "convnextv2")
# Weights of training tasks: no gradient reaches them here, and no optimiser should decay them.
_UNUSED = ("mask_token",)


class HubBackbone(nn.Module):
    """A vision model of `transformers` (ViT, DINOv2, DINOv3, SigLIP, ResNet, ...; extra ``hub``).

    Args:
        name: what stands behind ``hub:``, to speak of it.
        net: the model, or its half for pictures.
        pixels: how it wants them.
        traits: as found before; None: found now, with one image of noise.

    Raises:
        ValueError: it takes no plain images.
    """

    def __init__(self, name: str, net: nn.Module, pixels: Pixels, traits: Traits | None) -> None:
        super().__init__()
        self.name, self.net = name, net.float()
        config: Any = net.config
        self.kind = str(config.model_type)
        accepted = inspect.signature(net.forward).parameters
        name_of = "interpolate_pos_encoding"
        self.options = {name_of: True} if name_of in accepted else {}
        self.num_before = _tokens_before_patches(net, config)
        self._drop_what_is_not_used()
        self.traits = traits or self._found(pixels)
        self.attends = self.traits.has_attention
        self.tells_pixels = bool(pixels.mean)

    def forward(self, images: Tensor) -> Features:
        """Features of ``images`` (b, 3, h, w)."""
        traits = self.traits
        for side in images.shape[-2:]:
            refuse_side(PREFIX + self.name, traits, side)
        output = self.net(pixel_values=images, **self.options)
        hidden = output.last_hidden_state
        if hidden.dim() == 4:
            return Features(hidden)
        if self.kind in _NORM_IS_LEFT:
            hidden = self.net.post_layernorm(hidden)  # type: ignore[operator]
        rows, columns = (side // traits.stride for side in images.shape[-2:])
        # Class and register tokens come before those of the patches.
        patches = hidden[:, self.num_before :]  # (b, h w, c)
        return Features(
            patches.transpose(1, 2).unflatten(2, (rows, columns)),  # (b, c, h, w)
            hidden[:, 0] if traits.has_cls else None,
            output.pooler_output if self.attends else None,
        )

    def keep_for(self, pooling: str) -> None:
        """Drop the attention pooling where another one is used."""
        if self.attends and pooling != "attention":
            self.attends = False
            self.net.use_head = False  # type: ignore[assignment]
            del self.net.head

    def description(self) -> dict[str, Any]:
        """What `from_description` needs, as JSON has it."""
        import transformers

        return {
            "architecture": self.net.config.to_dict(),  # type: ignore[union-attr, operator]
            "transformers": transformers.__version__,
            "traits": asdict(self.traits),
        }

    def _drop_what_is_not_used(self) -> None:
        net = self.net
        pooler = getattr(net, "pooler", None)  # a layer over the class token, for a task
        if isinstance(pooler, nn.Module) and any(True for _ in pooler.parameters()):
            net.pooler = None  # type: ignore[assignment]
        if self.kind in _NORM_OF_MEAN:
            net.layernorm = nn.Identity()
        for name, parameter in net.named_parameters():
            if name.rpartition(".")[2] in _UNUSED:
                parameter.requires_grad_(False)

    def _found(self, pixels: Pixels) -> Traits:
        """What one image of noise tells, at the side that the model was trained with.

        Raises:
            ValueError: it gives no features of it.
        """
        config: Any = self.net.config
        side = pixels.side or _first(getattr(config, "image_size", 0)) or 224
        hidden, stride = self._tried(side)
        return Traits(
            num_channels=hidden.shape[1 if hidden.dim() == 4 else 2],
            **pixels.of_traits(self.kind),
            side=side,
            stride=stride,
            # One negative value of thousands is proof; a network that ends with a ReLU has none.
            is_signed=bool((hidden < 0).any()),
            has_cls=self.num_before > 0 and not getattr(config, "use_mean_pooling", False),
            has_attention=_has_attention(self.net),
        )

    def refuse_what_fails(self, side: int) -> None:
        """Raise unless the model gives features of images of ``side`` pixels.

        Raises:
            ValueError: its own code fails on them.
        """
        self._tried(side)

    def refuse_shape(self, height: int, width: int) -> None:
        """Raise unless the model gives features of images of that shape.

        Raises:
            ValueError: its own code fails on them.
        """
        try:
            with torch.no_grad():
                self.net(pixel_values=torch.zeros(1, 3, height, width), **self.options)
        except Exception as error:  # of the model's own code
            raise ValueError(
                f"evaluation.resize: model.backbone {PREFIX}{self.name} takes no image of "
                f"{width} x {height} pixels ({_first_line(error)}); leave it at crop"
            ) from error

    def _tried(self, side: int) -> tuple[Tensor, int]:
        """Last hidden state of an image of noise, and the pixels from patch to patch.

        Raises:
            ValueError: the model fails on it, or gives none of each patch.
        """
        noise = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        was_training = self.net.training
        self.net.eval()
        try:
            with torch.no_grad():
                hidden = self.net(pixel_values=noise, **self.options).last_hidden_state
            return hidden, 0 if hidden.dim() == 4 else self._stride(hidden.shape[1], side)
        except Exception as error:  # of the model's own code
            raise ValueError(
                f"model.backbone {PREFIX}{self.name} gives no features of an image of {side} x "
                f"{side} pixels ({_first_line(error)}); use another side, or a vision model that "
                "takes plain images"
            ) from error
        finally:
            self.net.train(was_training)

    def _stride(self, num_tokens: int, side: int) -> int:
        """Pixels from patch to patch of a model that finds ``num_tokens`` in a square image."""
        num_patches = num_tokens - self.num_before
        rows = math.isqrt(max(1, num_patches))
        stride = side // rows
        patch = _first(getattr(self.net.config, "patch_size", 0))
        stages = len(getattr(self.net.config, "depths", ())) or 1  # each halves the map of patches
        if rows * rows != num_patches or (patch and stride not in (patch, patch << (stages - 1))):
            raise ValueError(
                f"it gives {num_tokens} tokens, of which {self.num_before} are none of a patch"
            )
        return stride


def from_hub(name: str) -> HubBackbone:
    """The model called ``name`` on the hub, or in the folder that `save_pretrained` wrote.

    Raises:
        ValueError: a package, the model or a part of its weights is not there.
    """
    try:
        from transformers import AutoConfig, AutoModel
    except Exception as error:  # its lazy imports fail with RuntimeError, too
        raise ValueError(
            f"model.backbone {PREFIX}{name} needs transformers: {install('hub')}"
        ) from error
    with _Quiet():
        try:
            # Only tensors: safetensors, and no code from the repository.
            config = AutoConfig.from_pretrained(name, trust_remote_code=False)
            # A model of pictures and texts keeps its half for pictures under this name.
            config = getattr(config, "vision_config", config)
            model, told = AutoModel.from_pretrained(
                name,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            pixels = read_pixels(name)
        except Exception as error:  # of huggingface_hub, safetensors, httpx or the model's own code
            raise _refusal(name, error) from error
    backbone = HubBackbone(name, getattr(model, "vision_model", model), pixels, None)
    missing = {key.removeprefix("vision_model.") for key in told["missing_keys"]}
    if lacking := sorted(missing & backbone.net.state_dict().keys()):
        raise ValueError(
            f"model.backbone {PREFIX}{name} lacks {len(lacking)} of its weights, the first "
            f"{lacking[0]}; use a complete one"
        )
    return backbone


def from_description(name: str, told: dict[str, Any]) -> HubBackbone:
    """The backbone that `HubBackbone.description` tells of, without its weights, from no network.

    Raises:
        ValueError: transformers is missing, or does not know the model.
    """
    try:
        from transformers import AutoConfig, AutoModel

        model = AutoModel.from_config(AutoConfig.for_model(**told["architecture"]))
    except Exception as error:
        raise ValueError(
            f"{PREFIX}{name} cannot be built ({_first_line(error)}); it was trained with "
            f"transformers {told['transformers']}: pip install transformers=="
            f"{told['transformers']}"
        ) from error
    traits = Traits(**told["traits"])
    traits = replace(traits, mean=tuple(traits.mean), std=tuple(traits.std))
    net = getattr(model, "vision_model", model)
    return HubBackbone(name, net, Pixels(), traits)


def _tokens_before_patches(net: nn.Module, config: Any) -> int:
    """Class, distillation and register tokens, by the parameters that hold them."""
    if config.model_type == "dinov3_convnext":  # its mean, normed, in the place of a class token
        return 1
    names = {name.rpartition(".")[2] for name, _ in net.named_parameters()}
    single = len(names & {"cls_token", "class_embedding", "distillation_token"})
    return single + (getattr(config, "num_register_tokens", 0) if single else 0)


def _has_attention(net: nn.Module) -> bool:
    return "AttentionPooling" in type(getattr(net, "head", None)).__name__


def _first(value: Any) -> int:
    """The number, or the first of several: sides of images and patches are written both ways."""
    return int(value[0] if isinstance(value, list | tuple) else value or 0)


def _refusal(name: str, error: Exception) -> ValueError:
    """What to do about a model that cannot be had."""
    asked, reason = f"model.backbone {PREFIX}{name}", _first_line(error)
    texts = f"{error} {error.__cause__}".lower()
    if "gated" in texts or "awaiting a review" in texts:
        return ValueError(
            f"{asked} is gated: accept its terms at https://huggingface.co/{name}, then log in "
            "here and on every worker (`hf auth login`, or HF_TOKEN), or give a folder with it"
        )
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
        return ValueError(
            f"{asked} is neither a folder nor a vision model that can be fetched: there is no "
            "such folder; give the one that save_pretrained wrote"
        )
    return ValueError(
        f"{asked} is neither a folder nor a vision model that can be fetched ({reason}); check "
        "the name, or save it with save_pretrained where the network is and give that folder"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class _Quiet:
    """No bars and tables of transformers inside the block, and no word of each try to fetch."""

    def __enter__(self) -> None:
        from transformers.utils import logging

        self.logging, self.level = logging, logging.get_verbosity()
        self.had_bars = logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.fetching = getLogger("huggingface_hub")
        self.level_of_fetching = self.fetching.level
        self.fetching.setLevel(ERROR)

    def __exit__(self, *_: object) -> None:
        self.logging.set_verbosity(self.level)
        self.fetching.setLevel(self.level_of_fetching)
        if self.had_bars:
            self.logging.enable_progress_bar()
