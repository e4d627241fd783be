"""Losses to compare with: built from keyword options, called with unit descriptors and labels.

They hold the whole similarity matrix, and the ranking losses a row of it per positive pair: they
are there to compare accuracy, not batch size. Queries without a positive (or, where it matters, a
negative) are left out; if none is left, the loss is 0, with a warning.

Shapes: n images in the batch, d descriptor size, p ordered pairs (query, positive).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from apdist.config.baselines import (
    CalibrationOptions,
    ContrastiveOptions,
    MultiSimilarityOptions,
    RecallAtKOptions,
    SmoothAveragePrecisionOptions,
    TripletOptions,
)
from apdist.loss.batch import checked_descriptors
from apdist.loss.results import warn_of_no_positives


@dataclass(frozen=True, kw_only=True)
class BatchHardTriplet(TripletOptions):
    """Mean over queries of max(0, margin + hardest negative - hardest positive similarity).

    Hermans et al., 2017, in cosine similarity.
    """

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        scores, positive, negative = _scores(descriptors, labels)
        hardest_positive = scores.masked_fill(~positive, torch.inf).amin(dim=1)  # (n,)
        hardest_negative = scores.masked_fill(~negative, -torch.inf).amax(dim=1)
        losses = (self.margin + hardest_negative - hardest_positive).clamp(min=0)
        return _mean(losses, positive.any(dim=1) & negative.any(dim=1))


@dataclass(frozen=True, kw_only=True)
class Contrastive(ContrastiveOptions):
    """Sum over pairs, per query, of squared distance or squared shortfall; mean over queries.

        positive: |f_i - f_j|^2 / 2        negative: max(0, margin - |f_i - f_j|)^2 / 2

    Radenovic et al., TPAMI 2019.
    """

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        scores, positive, negative = _scores(descriptors, labels)
        # The root has no derivative at 0, where its square does.
        distances = (2 - 2 * scores).clamp(min=1e-12).sqrt()
        pulls = ((1 - scores) * positive).sum(dim=1)
        pushes = ((self.margin - distances).clamp(min=0).square() / 2 * negative).sum(dim=1)
        return _mean(pulls + pushes, positive.any(dim=1))


@dataclass(frozen=True, kw_only=True)
class Calibration(CalibrationOptions):
    """Absolute similarities, which a ranking leaves open: the second loss of ROADMAP.

    The mean over positive pairs below it of positive_margin - similarity, and the mean over
    negative pairs above it of similarity - negative_margin. Ramzi et al., NeurIPS 2021, as in the
    published code: pairs that keep their margin are not in the mean.
    """

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        scores, positive, negative = _scores(descriptors, labels)
        short = (self.positive_margin - scores).clamp(min=0) * positive  # (n, n)
        over = (scores - self.negative_margin).clamp(min=0) * negative
        return _mean_of_positive(short) + _mean_of_positive(over)


@dataclass(frozen=True, kw_only=True)
class MultiSimilarity(MultiSimilarityOptions):
    """Multi-similarity loss with its pair mining (Wang et al., CVPR 2019).

        mean over queries of  log(1 + sum exp(-alpha (s+ - base))) / alpha
                            + log(1 + sum exp(beta (s- - base))) / beta

    over the positives less similar than the hardest negative plus ``epsilon``, and the negatives
    more similar than the hardest positive minus ``epsilon``.
    """

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        scores, positive, negative = _scores(descriptors, labels)
        fixed = scores.detach()
        hardest_negative = fixed.masked_fill(~negative, -torch.inf).amax(dim=1, keepdim=True)
        hardest_positive = fixed.masked_fill(~positive, torch.inf).amin(dim=1, keepdim=True)
        pulled = positive & (fixed < hardest_negative + self.epsilon)
        pushed = negative & (fixed > hardest_positive - self.epsilon)
        pulls = _log_one_plus_sum_exp(-self.alpha * (scores - self.base), pulled) / self.alpha
        pushes = _log_one_plus_sum_exp(self.beta * (scores - self.base), pushed) / self.beta
        return _mean(pulls + pushes, positive.any(dim=1))


@dataclass(frozen=True, kw_only=True)
class SmoothAveragePrecision(SmoothAveragePrecisionOptions):
    """1 - mean Smooth-AP: ranks count the images above through a sigmoid.

    Brown et al., ECCV 2020.
    """

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        scores, positive, _ = _scores(descriptors, labels)
        has_positive = positive.any(dim=1)
        itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        listed = torch.ones_like(itself) if self.include_self else ~itself
        positive = positive | itself if self.include_self else positive
        queries, ranks, ranks_among_positives = _soft_ranks(
            scores, positive, listed, self.temperature
        )
        sums = torch.zeros_like(scores[:, 0]).index_add(0, queries, ranks_among_positives / ranks)
        losses = 1 - sums / positive.sum(dim=1).clamp(min=1)
        return _mean(losses, has_positive | self.include_self)


@dataclass(frozen=True, kw_only=True)
class RecallAtK(RecallAtKOptions):
    """1 - mean over k of the soft recall@k (Patel et al., CVPR 2022).

        recall@k = min(k, sum over positives of sigmoid((k - rank) / temperature))
                 / min(k, positives)

    with soft ranks as in Smooth-AP. The sigmoid is 1/2 where the rank is k, so a perfect ranking
    does not reach 0. The query itself is not in its list; in the published code it is, and counts
    about 1 in every rank: recall@k there compares the ranks here with k - 1, so that an only
    positive in first place gives sigmoid(-1 / temperature) for k = 1.
    """

    def __call__(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        scores, positive, _ = _scores(descriptors, labels)
        itself = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        queries, ranks, _ = _soft_ranks(scores, positive, ~itself, self.rank_temperature)
        num_positives = positive.sum(dim=1)
        losses = torch.zeros_like(scores[:, 0])
        temperatures = self.recall_temperatures or (self.recall_temperature,) * len(self.ks)
        for k, temperature in zip(self.ks, temperatures, strict=True):
            found = torch.sigmoid((k - ranks) / temperature)  # (p,)
            # Of more than k positives a high temperature finds more than k.
            recalls = torch.zeros_like(losses).index_add(0, queries, found).clamp(max=k)
            losses = losses + (1 - recalls / num_positives.clamp(min=1, max=k)) / len(self.ks)
        return _mean(losses, num_positives > 0)


def _scores(descriptors: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, n) similarities, which pairs are positive, and which negative."""
    descriptors = checked_descriptors(descriptors, labels)
    with torch.autocast(descriptors.device.type, enabled=False):
        scores = descriptors @ descriptors.T
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return scores, same & ~itself, ~same


def _soft_ranks(
    scores: Tensor, positive: Tensor, listed: Tensor, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Query (p,) of each positive pair, and its soft ranks (p,) in the list and among positives.

    rank of x = 1 + sum over listed z other than x of sigmoid((s_z - s_x) / temperature)
    """
    queries, images = positive.nonzero(as_tuple=True)  # (p,), (p,)
    own = scores[queries, images]
    above = torch.sigmoid((scores[queries] - own[:, None]) / temperature)  # (p, n)
    above = above * listed[queries]
    above = above.scatter(1, images[:, None], 0)
    return queries, 1 + above.sum(dim=1), 1 + (above * positive[queries]).sum(dim=1)


def _log_one_plus_sum_exp(values: Tensor, kept: Tensor) -> Tensor:
    """(n,) log(1 + sum over the kept pairs of exp(value)), without overflow."""
    values = values.masked_fill(~kept, -torch.inf)
    return torch.cat((torch.zeros_like(values[:, :1]), values), dim=1).logsumexp(dim=1)


def _mean_of_positive(values: Tensor) -> Tensor:
    """() mean of those ``values`` (n, n) that are above 0, the others being 0; 0 without any."""
    # Divided by 1 where there is none: zero that still belongs to the graph.
    return values.sum() / (values.detach() > 0).sum().clamp(min=1)


def _mean(losses: Tensor, counted: Tensor) -> Tensor:
    """() mean of the counted ``losses`` (n,)."""
    if not bool(counted.any()):
        warn_of_no_positives(len(losses))
        # Zero that still belongs to the graph: backward() gives a gradient of zeros.
        return (losses.nan_to_num(0, 0, 0) * 0).sum()
    return losses[counted].mean()
