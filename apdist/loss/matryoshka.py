"""Descriptors that may be cut: losses of their first numbers, beside that of the whole.

Matryoshka representation learning (Kusupati et al., 2022): what comes first says most, so that an
index can keep the first numbers alone, of unit length again. Where all of them are 0, as behind a
ReLU they may be, they have no direction: the cut is then the first axis, and has no gradient.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size, m numbers
that are kept.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from apdist.config.loss import LossOptions
from apdist.given import shown
from apdist.loss.batch import upcast
from apdist.loss.batch_loss import BatchLoss, parameters_of
from apdist.loss.results import RowScores
from apdist.loss.weighted import WeightedSum, options_of

_SHORTEST = 1e-4
"""Of unit vectors: of a cut that is shorter, the direction is rounding, and its gradient huge."""


class Matryoshka(nn.Module):
    """Mean of the loss of whole descriptors, and of those of their first numbers.

    Args:
        whole: loss of the descriptors as they are.
        parts: losses by m, how many of the first numbers each is of; of their kind. What learns
            centres of its own is made once for each, the others may be the same.

    Raises:
        ValueError: an m is no whole number or below 1, or there is none; a loss is no function.
    """

    def __init__(self, whole: BatchLoss, parts: Mapping[int, BatchLoss]) -> None:
        super().__init__()
        sizes = list(parts) if isinstance(parts, Mapping) else []
        if not sizes or any(type(size) is not int or size < 1 for size in sizes):
            raise ValueError(
                "parts must be losses by whole numbers of at least 1, as {64: loss, 128: loss}, "
                f"got {shown(parts)}"
            )
        self.sizes = tuple(sorted(sizes))
        self.losses = [*(parts[size] for size in self.sizes), whole]
        if not all(callable(loss) for loss in self.losses):
            raise ValueError("losses must be functions of descriptors and labels; pass modules")
        self.learning = nn.ModuleList(loss for loss in self.losses if isinstance(loss, nn.Module))

    @property
    def options(self) -> LossOptions | None:
        """Of the listwise loss of whole descriptors; None without one."""
        return options_of(self.losses[-1])

    @property
    def num_rounds(self) -> int:
        """How often the workers meet for listwise losses."""
        return sum(options_of(loss) is not None for loss in self.losses)

    def forward(
        self,
        descriptors: Tensor,
        labels: Tensor,
        query_weights: Tensor | None = None,
        ignore: Tensor | None = None,
    ) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,).

        ``query_weights`` and ``ignore`` are those of `average_precision_loss`, of all parts.

        Raises:
            ValueError: a part has more numbers than a descriptor; or does not know what is given.
        """
        more = () if query_weights is None and ignore is None else (query_weights, ignore)
        if more and any(_takes_labels_alone(loss) for loss in self.losses):
            raise ValueError(
                "only the average-precision loss knows ignore and query_weights; leave them out"
            )
        values = [
            loss(part, labels, *more)
            for loss, part in zip(self.losses, self._parts_of(descriptors), strict=True)
        ]
        return torch.stack(values).mean()

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
        own = upcast(descriptors[rows])[0]
        total = torch.zeros_like(own)
        by_parameter: dict[nn.Parameter, Tensor] = {}
        for loss, part in zip(self.losses, self._parts_of(descriptors), strict=True):
            scores = score(loss, part)
            size = part.shape[1]
            # One (b, d) for all parts: descriptors may fill half of a GPU.
            total[:, :size].add_(_through_cut(own, size, scores.gradient), alpha=share)
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

    def _parts_of(self, descriptors: Tensor) -> Iterator[Tensor]:
        """What each loss sees, one after the other."""
        for size in self.sizes:
            yield first_numbers(descriptors, size)
        yield descriptors


def first_numbers(descriptors: Tensor, size: int) -> Tensor:
    """The first ``size`` numbers of ``descriptors`` (n, d), of unit length again.

    A cut without a direction is the first axis.

    Raises:
        ValueError: there are fewer.
    """
    part, lengths = _cut(upcast(descriptors)[0], size)
    axis = (torch.arange(size, device=part.device) == 0).to(part.dtype)
    # What is not finite stays so.
    return torch.where(lengths < _SHORTEST, axis, part / lengths.clamp(min=_SHORTEST))


def _cut(descriptors: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The first numbers (n, m), and their lengths (n, 1)."""
    if size > descriptors.shape[1]:
        raise ValueError(
            f"descriptors have {descriptors.shape[1]} numbers, too few for a cut to the first "
            f"{size}; keep fewer"
        )
    part = descriptors[:, :size]
    with torch.autocast(part.device.type, enabled=False):
        return part, torch.linalg.vector_norm(part, dim=1, keepdim=True)


def _through_cut(own: Tensor, size: int, gradient: Tensor) -> Tensor:
    """(b, m) derivative by the first numbers of ``own`` (b, d) from the ``gradient`` by their cut.

    Of u = x / |x| it is (g - u (u g)) / |x|; whole descriptors are not cut.
    """
    if size == own.shape[1]:
        return gradient
    part, lengths = _cut(own, size)
    unit = part / lengths.clamp(min=_SHORTEST)
    along = (unit * gradient).sum(dim=1, keepdim=True)
    tangential = (gradient - unit * along) / lengths.clamp(min=_SHORTEST)
    return tangential.masked_fill(lengths < _SHORTEST, 0.0)


def _takes_labels_alone(loss: BatchLoss) -> bool:
    return options_of(loss) is None or isinstance(loss, WeightedSum)
