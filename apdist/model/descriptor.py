"""The descriptor network: pixels -> backbone -> GeM -> (L2) -> linear -> L2.

Shapes: b images, h x w pixels, d descriptor size.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.config import ModelConfig
from apdist.data.images import Fit
from apdist.model.backbones import build_backbone, pixel_statistics
from apdist.model.pooling import GeM


class DescriptorNet(nn.Module):
    """Unit-length descriptors of images.

    Args:
        config: backbone, descriptor size, pooling exponent, norm before the linear layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone, num_channels = build_backbone(config.backbone)
        self.pooling = GeM(config.gem_p)
        self.linear = nn.Linear(num_channels, config.dim)
        mean, std = pixel_statistics(config.backbone)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        # Convolutions with channels last are 1.5 times faster on CPUs and needed by tensor cores.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Describe ``images`` (b, 3, h, w), uint8 or in [0, 1], as (b, d), float32 or wider."""
        pixels = images.to(self.mean.dtype, memory_format=torch.channels_last)
        if not images.is_floating_point():
            pixels = pixels / 255
        pooled = self.pooling(self.backbone((pixels - self.mean) / self.std))  # (b, c)
        if self.config.norm_before_linear:
            pooled = F.normalize(pooled, dim=1)
        # Half precision would cost the loss 3 to 10 % of its gradient: leave autocast here.
        with torch.autocast(pooled.device.type, enabled=False):
            return F.normalize(self.linear(pooled.to(self.linear.weight.dtype)), dim=1)

    def fit(self, side: int, resize: Literal["crop", "longest"]) -> Fit:
        """How images are brought to this network."""
        multiple = int(getattr(self.backbone, "patch_size", 0)) or 1
        return Fit(side=side, resize=resize, multiple=multiple)

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
