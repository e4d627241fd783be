"""Any loss of a batch in the form that the training step wants: loss and gradient of the own rows.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from apdist.config import LossConfig
from apdist.loss.baselines import (
    BatchLoss,
    batch_hard_triplet,
    contrastive,
    metric_learning,
    multi_similarity,
    recall_at_k,
    smooth_average_precision,
)
from apdist.loss.listwise import AveragePrecisionLoss, RowScores
from apdist.loss.scoring import Diagnostics

BASELINES: dict[str, BatchLoss] = {
    "triplet": batch_hard_triplet,
    "contrastive": contrastive,
    "multi_similarity": multi_similarity,
    "smooth_ap": smooth_average_precision,
    "recall_at_k": recall_at_k,
}


def build_loss(config: LossConfig) -> AveragePrecisionLoss | BatchLoss:
    """The loss that ``config`` names.

    Raises:
        ValueError: a loss of pytorch-metric-learning that is not there.
    """
    if config.kind.startswith("pml:"):
        return metric_learning(config.kind.removeprefix("pml:"))
    if config.kind in BASELINES:
        return BASELINES[config.kind]
    return AveragePrecisionLoss(
        num_bins=config.num_bins,
        score_range=(config.min_score, config.max_score),
        variant=config.kind,
        cache_bytes="auto" if config.cache_mib == "auto" else config.cache_mib << 20,
        precision=config.precision,
    )


def score_rows(
    loss: AveragePrecisionLoss | BatchLoss,
    descriptors: Tensor,
    labels: Tensor,
    rows: slice,
    *,
    ignore: Tensor | None,
    sum_over_workers: Callable[[Tensor], Tensor],
    gather_rows: Callable[[Tensor], Tensor],
) -> RowScores:
    """Loss of the global batch and its gradient by the descriptors of the own ``rows``.

    Args:
        loss: the tiled one shares the work between the workers; any other is evaluated by every
            worker on the whole batch, and each keeps the gradient of its own rows.
        descriptors: (n, d) gathered from all workers.
        labels: (n,) likewise.
        rows: this worker's.
        ignore: (n,) ids of junk, see `average_precision_loss`; no other loss knows it.
        sum_over_workers: for the tiled loss.
        gather_rows: for the tiled loss.

    Raises:
        ValueError: the batch is refused; ``ignore`` with a loss that does not know it.
    """
    if isinstance(loss, AveragePrecisionLoss):
        return loss.score_rows(
            descriptors,
            labels,
            rows,
            sum_over_workers=sum_over_workers,
            gather_rows=gather_rows,
            ignore=ignore,
        )
    if ignore is not None:
        raise ValueError("only the average-precision loss knows ignore; leave it out")
    leaf = descriptors.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(leaf.device.type, enabled=False):
        value = loss(leaf, labels)
        if not isinstance(value, Tensor) or value.dim() != 0 or not bool(value.isfinite()):
            raise ValueError(
                f"a loss must return one finite number as a tensor, got {_shown(value)}"
            )
        (gradient,) = torch.autograd.grad(value, leaf)
    return RowScores(
        value.detach().double(),
        leaf.new_full((rows.stop - rows.start,), torch.nan, dtype=torch.float64),
        gradient[rows],
        _counts(labels),
    )


def _shown(value: object) -> str:
    return str(value.detach()) if isinstance(value, Tensor) else repr(value)


def _counts(labels: Tensor) -> Diagnostics:
    """What is known of a batch without histograms."""
    _, sizes = labels.unique(return_counts=True)
    num_lone = int((sizes == 1).sum())
    nothing = torch.zeros(0, dtype=torch.float64)
    return Diagnostics(
        num_queries=len(labels) - num_lone,
        num_lone_queries=num_lone,
        positive_histogram=nothing,
        negative_histogram=nothing,
        wrong_sign_share=0.0,
    )
