"""Any loss of a batch: its gradient where each worker computes all of it.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size.
"""

from typing import Protocol

import torch
from torch import Tensor, nn

from apdist.loss.results import Diagnostics, RowScores


class BatchLoss(Protocol):
    """Any loss of a batch."""

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d), unit vectors, with ``labels`` (n,)."""


def parameters_of(loss: BatchLoss) -> list[nn.Parameter]:
    """What ``loss`` learns itself, in an order that stays."""
    return [p for p in loss.parameters() if p.requires_grad] if isinstance(loss, nn.Module) else []


def score_whole_batch(
    loss: BatchLoss, descriptors: Tensor, labels: Tensor, rows: slice
) -> RowScores:
    """The loss of all ``descriptors`` (n, d), and the part of its gradient for the own ``rows``.

    The gradient by parameters of the loss is whole: every worker sees the whole batch.

    Raises:
        ValueError: the batch is refused, or the loss is not one finite number.
    """
    leaf = descriptors.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(leaf.device.type, enabled=False):
        value = loss(leaf, labels)
        if not isinstance(value, Tensor) or value.dim() != 0 or not bool(value.isfinite()):
            raise ValueError(
                f"a loss must return one finite number as a tensor, got {_shown(value)}"
            )
        gradient, *of_parameters = torch.autograd.grad(
            value, [leaf, *parameters_of(loss)], allow_unused=True
        )
    assert gradient is not None, "the value is no function of the descriptors"
    return RowScores(
        value.detach().double(),
        leaf.new_full((rows.stop - rows.start,), torch.nan, dtype=torch.float64),
        gradient[rows],
        _counts(leaf.detach(), labels),
        tuple(of_parameters),
    )


def _shown(value: object) -> str:
    return str(value.detach()) if isinstance(value, Tensor) else repr(value)


def _counts(descriptors: Tensor, labels: Tensor) -> Diagnostics:
    """What is known of a batch without a similarity matrix.

    Histograms have two bins, at 1 and at -1, whose mean is that of the scores. A sum over all pairs
    is the square of the sum of the descriptors.
    """
    _, places, sizes = labels.unique(return_inverse=True, return_counts=True)
    num_lone = int((sizes == 1).sum())
    unit = descriptors.double()
    sums = unit.new_zeros(len(sizes), unit.shape[1]).index_add(0, places, unit)  # (c, d)
    same = sums.square().sum()
    num_same, num_all = sizes.square().sum(), len(labels) ** 2
    positives, negatives = same - unit.square().sum(), sums.sum(dim=0).square().sum() - same
    return Diagnostics(
        num_queries=len(labels) - num_lone,
        num_lone_queries=num_lone,
        positive_histogram=_two_bins(positives, num_same - len(labels)),
        negative_histogram=_two_bins(negatives, num_all - num_same),
        wrong_sign_share=0.0,
    )


def _two_bins(total: Tensor, num_pairs: Tensor) -> Tensor:
    """(2,) pairs at 1 and at -1 that have the ``total`` score of ``num_pairs``."""
    return torch.stack((num_pairs + total, num_pairs - total)) / 2
