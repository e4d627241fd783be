"""Pooling: one vector from a feature map.

Shapes: b images, c channels, h x w positions.
"""

import torch
from torch import Tensor, nn


class GeM(nn.Module):
    """Generalised mean over positions with a learnable exponent (Radenovic et al., 2018, eq. 3).

    Args:
        p: start of the exponent; 1 is the mean, infinity the maximum.
        eps: features are clamped to at least this.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.tensor([float(p)]))
        self.eps = eps

    def forward(self, features: Tensor) -> Tensor:
        """Pool ``features`` (b, c, h, w) to (b, c)."""
        # The gradient of x**p is infinite at 0 for p < 1. The power overflows in half precision.
        powered = features.float() if features.dtype in _HALF else features
        powered = powered.clamp(min=self.eps).pow(self.p)  # (b, c, h, w)
        return powered.mean(dim=(-2, -1)).pow(1 / self.p)  # (b, c)


_HALF = (torch.float16, torch.bfloat16)
