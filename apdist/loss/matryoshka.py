"""Descriptors that may be cut: losses of their first numbers, beside that of the whole.

Matryoshka representation learning (Kusupati et al., 2022): what comes first says most, so that an
index can keep the first numbers alone, of unit length again.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size, m numbers
that are kept.
"""

import dataclasses
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from apdist.config.loss import LossOptions
from apdist.loss.batch import upcast
from apdist.loss.batch_loss import BatchLoss, parameters_of
from apdist.loss.results import RowScores
from apdist.loss.weighted import options_of


class Matryoshka(nn.Module):
    """Mean of the loss of whole descriptors, and of those of their first numbers.

    Args:
        whole: loss of the descriptors as they are.
        parts: losses by m, how many of the first numbers each is of; of their kind. What learns
            centres of its own is made once for each, the others may be the same.

    Raises:
        ValueError: an m is below 1, or there is none.
    """

    def __init__(self, whole: BatchLoss, parts: Mapping[int, BatchLoss]) -> None:
        super().__init__()
        if not parts or min(parts) < 1:
            raise ValueError(f"parts must be losses by numbers of at least 1, got {list(parts)}")
        self.sizes = tuple(sorted(parts))
        self.losses = [*(parts[size] for size in self.sizes), whole]
        self.learning = nn.ModuleList(loss for loss in self.losses if isinstance(loss, nn.Module))

    @property
    def options(self) -> LossOptions | None:
        """Of the listwise loss of whole descriptors; None without one."""
        return options_of(self.losses[-1])

    @property
    def num_rounds(self) -> int:
        """How often the workers meet for listwise losses."""
        return sum(options_of(loss) is not None for loss in self.losses)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,).

        Raises:
            ValueError: a part has more numbers than a descriptor.
        """
        *parts, whole = self.losses
        values = [
            loss(first_numbers(descriptors, size), labels)
            for size, loss in zip(self.sizes, parts, strict=True)
        ]
        return torch.stack([*values, whole(descriptors, labels)]).mean()

    def score(
        self, descriptors: Tensor, rows: slice, score: Callable[[BatchLoss, Tensor], RowScores]
    ) -> RowScores:
        """Loss and gradients of the mean from those of each part, which ``score`` finds.

        What else is known of a batch is that of whole descriptors.

        Args:
            descriptors: (n, d) of the global batch.
            rows: this worker's part of them.
            score: finds what is known of a loss of (n, m) descriptors.

        Raises:
            ValueError: a part has more numbers than a descriptor.
        """
        share, losses = 1 / len(self.losses), []
        total = torch.zeros_like(upcast(descriptors[rows])[0])
        by_parameter: dict[nn.Parameter, Tensor] = {}
        for size, loss in zip((*self.sizes, None), self.losses, strict=True):
            scores = score(loss, descriptors if size is None else first_numbers(descriptors, size))
            gradient = scores.gradient
            if size is not None:
                gradient = _through_cut(descriptors[rows], size, gradient)
            total.add_(gradient, alpha=share)
            losses.append(scores.loss)
            pairs = zip(parameters_of(loss), scores.parameter_gradients, strict=True)
            for parameter, of_part in pairs:
                if of_part is not None:
                    earlier = by_parameter.get(parameter, 0.0)
                    by_parameter[parameter] = earlier + share * of_part
        return dataclasses.replace(
            scores,  # of whole descriptors, the last
            loss=torch.stack(losses).mean(),
            gradient=total,
            parameter_gradients=tuple(by_parameter.get(p) for p in parameters_of(self)),
            term_losses=(*scores.term_losses, *losses),
        )


def first_numbers(descriptors: Tensor, size: int) -> Tensor:
    """The first ``size`` numbers of ``descriptors`` (n, d), of unit length again.

    Raises:
        ValueError: there are fewer.
    """
    descriptors, _ = upcast(descriptors)
    if size > descriptors.shape[1]:
        raise ValueError(
            f"descriptors have {descriptors.shape[1]} numbers, got a loss of the first {size}; "
            "take fewer, or a larger descriptor"
        )
    with torch.autocast(descriptors.device.type, enabled=False):
        return normalize(descriptors[:, :size], dim=1)


def _through_cut(own: Tensor, size: int, gradient: Tensor) -> Tensor:
    """(b, d) derivative by the ``own`` descriptors from the ``gradient`` (b, m) by their parts."""
    leaf = own.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(first_numbers(leaf, size), leaf, gradient)[0]
