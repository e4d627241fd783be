"""The descriptor network: pixels -> backbone -> (local) -> pooling -> (L2) -> (linear) -> L2.

Shapes: b images, h x w pixels, c' pooled features, d descriptor size.
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from apdist.config import ModelConfig
from apdist.config.training import Resize
from apdist.data.images import Fit
from apdist.model.backbones import build_backbone
from apdist.model.hub import HubBackbone
from apdist.model.pooling import build_pooling, choose_pooling, towards_centre, unit_length
from apdist.model.traits import Features


class DescriptorNet(nn.Module):
    """Unit-length descriptors of images.

    Args:
        config: backbone, pooling, norm before the linear layer, descriptor size.
        described: of a backbone of the hub what a trained model tells; None: ask the hub.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig, described: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.config = config
        self.backbone, traits = build_backbone(config.backbone, described)
        self.traits = dataclasses.replace(
            traits, mean=config.pixel_mean or traits.mean, std=config.pixel_std or traits.std
        )
        self.pooling_name = choose_pooling(config, self.traits)
        if isinstance(self.backbone, HubBackbone):
            self.backbone.keep_for(self.pooling_name)
        num_channels = self.traits.num_channels
        self.local = nn.Linear(num_channels, num_channels) if config.local_whitening else None
        self.pooling, num_pooled = build_pooling(self.pooling_name, config, num_channels)
        self.linear = nn.Linear(num_pooled, config.dim) if config.dim else nn.Identity()
        self.dim = config.dim or num_pooled
        for name, values in (("mean", self.traits.mean), ("std", self.traits.std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        # Convolutions with channels last are 1.5 times faster on CPUs and needed by tensor cores.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, before_linear: bool = False) -> Tensor:
        """Describe ``images`` (b, 3, h, w), uint8 or in [0, 1], as (b, d), float32 or wider.

        ``before_linear``: what the linear layer would get instead, (b, c').

        Raises:
            ValueError: it is another number of dimensions.
        """
        if images.dim() != 4:
            raise ValueError(
                f"images must be (b, 3, h, w), got {tuple(images.shape)}; one is images[None]"
            )
        pixels = images.to(self.mean.dtype, memory_format=torch.channels_last)
        if not images.is_floating_point():
            pixels = pixels / 255
        found = self.backbone((pixels - self.mean) / self.std)
        features = found if isinstance(found, Features) else Features(found)
        pooled = self.pooling(
            features._replace(maps=self._before_pooling(features.maps))
        )  # (b, c')
        eps = self.config.norm_eps
        if self.config.norm_before_linear:
            pooled = unit_length(pooled, eps)
        # Half precision would cost the loss 3 to 10 % of its gradient: leave autocast here.
        with torch.autocast(pooled.device.type, enabled=False):
            pooled = pooled.to(self.mean.dtype)
            return pooled if before_linear else unit_length(self.linear(pooled), eps)

    def _before_pooling(self, maps: Tensor) -> Tensor:
        """What is pooled of the backbone's ``maps`` (b, c, h, w)."""
        if self.local is not None:
            maps = self.local(maps.movedim(1, -1)).movedim(-1, 1)
        return towards_centre(maps, self.config.centre_bias) if self.config.centre_bias else maps

    def fit(self, side: int, resize: Resize) -> Fit:
        """How images are brought to this network."""
        traits = self.traits
        return Fit(
            side=side,
            resize=resize,
            interpolation=traits.interpolation,
            multiple=traits.stride or 1,
        )

    def train(self, mode: bool = True) -> "DescriptorNet":
        """Training mode; frozen batch norm keeps its statistics (`ModelConfig.batch_norm`).

        So does one whose parameters are not trained: statistics that moved would change it.
        """
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                own = [parameter.requires_grad for parameter in module.parameters()]
                if self.config.batch_norm == "frozen" or (own and not any(own)):
                    module.eval()
        return self
