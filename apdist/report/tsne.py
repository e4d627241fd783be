"""A plane on which images that are described alike lie close: exact t-SNE, the same every time.

van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008. Time and memory are O(n^2).

Shapes: n images, d descriptor size.
"""

from __future__ import annotations

import torch
from torch import Tensor

PERPLEXITY = 30.0
LEAST_IMAGES = 8
"""With fewer, neighbours say nothing: the plane is that of PCA."""
_STEPS, _EXAGGERATED_STEPS, _EXAGGERATION = 400, 120, 12.0
_BISECTIONS = 40


def lay_out(descriptors: Tensor) -> Tensor:
    """(n, 2) float32 places of descriptors (n, d), by t-SNE that starts from `principal_plane`."""
    start = principal_plane(descriptors)
    if len(descriptors) < LEAST_IMAGES:
        return start
    affinities = _affinities(descriptors.float().cpu())
    return _descend(affinities, 1e-4 * start / start[:, 0].std().clamp(min=1e-12))


def principal_plane(descriptors: Tensor) -> Tensor:
    """(n, 2) float32 coordinates of descriptors (n, d) along their two axes of most variance."""
    centred = descriptors.double().cpu()
    centred = centred - centred.mean(dim=0)
    left, strengths, _ = torch.linalg.svd(centred, full_matrices=False)
    plane = torch.zeros(len(centred), 2, dtype=torch.float64)
    found = (left * strengths)[:, :2]
    # The sign of an axis is arbitrary: the image that is farthest out lies on the positive side.
    far = found.gather(0, found.abs().argmax(dim=0, keepdim=True))
    plane[:, : found.shape[1]] = found * far.sign()
    return plane.float()


def _affinities(descriptors: Tensor) -> Tensor:
    """(n, n) how likely two images are neighbours; sums to 1, equation 1 of the paper."""
    n = len(descriptors)
    distances = torch.cdist(descriptors, descriptors).square()  # (n, n)
    target = torch.log(torch.tensor(min(PERPLEXITY, (n - 1) / 3)))
    itself = torch.eye(n, dtype=torch.bool)
    low, high = torch.full((n, 1), 1e-6), torch.full((n, 1), 1e9)
    for _ in range(_BISECTIONS):
        precision = (low * high).sqrt()
        likely = torch.softmax((-distances * precision).masked_fill(itself, -torch.inf), dim=1)
        entropy = torch.special.entr(likely).sum(dim=1, keepdim=True)
        is_wide = entropy > target
        low, high = torch.where(is_wide, precision, low), torch.where(is_wide, high, precision)
    return (likely + likely.T) / (2 * n)


def _descend(affinities: Tensor, places: Tensor) -> Tensor:
    """Gradient descent with momentum and gains, as the authors' code."""
    n = len(places)
    rate = max(n / _EXAGGERATION / 4, 50.0)
    step, gains = torch.zeros_like(places), torch.ones_like(places)
    for count in range(_STEPS):
        is_early = count < _EXAGGERATED_STEPS
        gradient = _gradient(affinities * _EXAGGERATION if is_early else affinities, places)
        grows = gradient.sign() != step.sign()
        gains = torch.where(grows, gains + 0.2, gains * 0.8).clamp(min=0.01)
        step = (0.5 if is_early else 0.8) * step - rate * gains * gradient
        places = places + step
        places = places - places.mean(dim=0)
    return places


def _gradient(affinities: Tensor, places: Tensor) -> Tensor:
    """(n, 2) 4 sum_j (p_ij - q_ij) (y_i - y_j) / (1 + |y_i - y_j|^2), equation 5."""
    squares = places.square().sum(dim=1)
    distances = (squares[:, None] + squares - 2 * places @ places.T).clamp_(min=0)
    near = distances.add_(1).reciprocal_().fill_diagonal_(0)  # (n, n)
    pull = (affinities - near / near.sum()).mul_(near)
    return 4 * (pull.sum(dim=1, keepdim=True) * places - pull @ places)
