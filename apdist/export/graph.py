"""All that a run does between pixels and descriptors, as one module that can be exported.

Shapes: n images, h x w pixels, d descriptor size of the network, k that of what is made.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apdist.data.images import Fit
from apdist.export.resampling import resampled, scaled
from apdist.loss.matryoshka import first_numbers
from apdist.model.descriptor import DescriptorNet
from apdist.retrieval.recipe import Recipe


class PixelsToDescriptors(nn.Module):
    """Images as a caller has them to descriptors: resized, described, whitened, cut, L2.

    The checks of the package are left out: a graph cannot refuse.

    Args:
        network: of the run, in evaluation mode.
        fit: how images are brought to it, by the recipe.
        recipe: other sizes, several scales, whitening, numbers that are kept.
    """

    def __init__(self, network: DescriptorNet, fit: Fit, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.fit = network, fit
        self.scales, self.scale_power, self.dim = recipe.scales, recipe.scale_power, recipe.dim
        self.whitening: nn.Linear | None = None
        if recipe.whitening is not None:
            weight, bias = recipe.whitening.as_linear()
            self.whitening = nn.Linear(weight.shape[1], weight.shape[0])
            self.whitening.load_state_dict({"weight": weight, "bias": bias})

    def forward(self, pixels: Tensor) -> Tensor:
        """Describe ``pixels`` (n, h, w, 3) uint8, red green blue, as (n, k) float32."""
        images = resampled(pixels, self.fit) / 255
        multiple = self.network.traits.stride or 1
        found = [self.network(scaled(images, scale, multiple)) for scale in self.scales]
        pooled = found[0]
        if len(found) > 1:
            powered = torch.stack([x.sign() * x.abs().pow(self.scale_power) for x in found])
            mean = powered.mean(dim=0)
            pooled = F.normalize(mean.sign() * mean.abs().pow(1 / self.scale_power), dim=-1)
        if self.whitening is not None:
            pooled = F.normalize(self.whitening(pooled), dim=-1)
        return first_numbers(pooled, self.dim) if self.dim else pooled
