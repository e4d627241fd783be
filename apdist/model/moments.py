"""Mean and covariance of descriptors that come block by block, and of differences within classes.

Shapes: n descriptors, t in a block, d descriptor size, g classes in a block.
"""

import torch
from torch import Tensor

_ROWS_AT_ONCE = 8192
"""Through float64: 2,048 dimensions then take 128 MB."""


class Moments:
    """What PCA and whitening need to know of descriptors (n, d), in float64.

    Args:
        dim: d.
        device: where it is kept.
        sizes: (k,) how often each label comes in all blocks together; labels are 0 to k - 1. Then
            pairs are those of all blocks, and not only those within one: a sum (d,) is kept for
            each class.
    """

    def __init__(
        self, dim: int, device: torch.device | str = "cpu", sizes: Tensor | None = None
    ) -> None:

        def zeros(*size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.float64, device=device)

        self.count = 0
        self.mean = zeros(dim)
        self._scatter = zeros(dim, dim)
        self.num_pairs = 0
        """Ordered pairs of two images of a class in a block, or of all blocks by ``sizes``."""
        self._first = zeros(dim)
        self._spread = zeros(dim, dim)
        self._sizes = None if sizes is None else sizes.to(device)
        if sizes is not None:
            self.num_pairs = int((sizes * (sizes - 1)).sum())
            self._sums = zeros(len(sizes), dim)

    def add(self, descriptors: Tensor, labels: Tensor | None = None) -> None:
        """Take a block (t, d), and the pairs of equal ``labels`` (t,) in it.

        Raises:
            ValueError: no matrix, or one that is not finite.
        """
        check_finite(descriptors)
        for part in descriptors.split(_ROWS_AT_ONCE):
            self._add(part.double())
        if labels is not None and self._sizes is None:
            self._add_pairs(descriptors.double(), labels.to(descriptors.device))
        if labels is not None and self._sizes is not None:
            self._add_members(descriptors.double(), labels.to(descriptors.device), self._sizes)

    def covariance(self, around: Tensor | None = None) -> Tensor:
        """Mean (d, d) of (x - m)(x - m)^T over all descriptors, m (d,) their mean or ``around``."""
        found = self._scatter / self.count
        if around is None:
            return found
        offset = self.mean - around
        return found + offset[:, None] * offset

    @property
    def mean_of_pairs(self) -> Tensor:
        """Mean (d,) of the first descriptors of all pairs."""
        return self._first / self.num_pairs

    @property
    def spread(self) -> Tensor:
        """Mean (d, d) of (a - b)(a - b)^T over all pairs."""
        if self._sizes is None:
            return self._spread / self.num_pairs
        return (self._spread - 2 * self._sums.T @ self._sums) / self.num_pairs

    def _add(self, block: Tensor) -> None:
        # Chan, Golub, LeVeque, 1983: merged around their means, nothing large is subtracted.
        mean, count = block.mean(dim=0), len(block)
        centred, offset = block - mean, mean - self.mean
        total = self.count + count
        self._scatter += centred.T @ centred
        self._scatter += offset[:, None] * offset * (self.count * count / total)
        self.mean += offset * (count / total)
        self.count = total

    def _add_pairs(self, block: Tensor, labels: Tensor) -> None:
        """All ordered pairs of two images of a class.

            for a, b in pairs: first += a; spread += (a - b)(a - b)^T

        which is sum of (m - 1) x, and of 2 m (x - c)(x - c)^T, x in a class of m with centre c.
        """
        _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
        sums = block.new_zeros((len(sizes), block.shape[1])).index_add_(0, classes, block)  # (g, d)
        own = sizes[classes, None].double()  # (t, 1)
        centred = block - (sums / sizes[:, None])[classes]
        self._first += ((own - 1) * block).sum(dim=0)
        self._spread += (2 * own * centred).T @ centred
        self.num_pairs += int((sizes * (sizes - 1)).sum())

    def _add_members(self, block: Tensor, labels: Tensor, sizes: Tensor) -> None:
        """Sums of which all ordered pairs of a class come, whatever blocks it lies in.

        For a class of m with s = sum(x) that of (a - b)(a - b)^T is 2 m sum(x x^T) - 2 s s^T.
        """
        own = sizes[labels, None].double()  # (t, 1)
        self._first += ((own - 1) * block).sum(dim=0)
        self._spread += 2 * (own * block).T @ block
        self._sums.index_add_(0, labels, block)


def check_finite(descriptors: Tensor) -> None:
    """Raise unless ``descriptors`` are (n, d), n >= 1, and finite.

    Raises:
        ValueError: they are not.
    """
    if descriptors.dim() != 2 or not len(descriptors):
        raise ValueError(f"expected descriptors (n, d), n >= 1, got {tuple(descriptors.shape)}")
    if not torch.isfinite(descriptors).all():
        raise ValueError("descriptors hold NaN or infinity; check the model that made them")
