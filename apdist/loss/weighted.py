"""A weighted sum of losses, of which one may be listwise.

Shapes: n images in the global batch, b of them rows of this worker, d descriptor size.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from apdist.config.loss import LossOptions
from apdist.loss.batch_loss import BatchLoss, parameters_of
from apdist.loss.results import RowScores


class WeightedSum(nn.Module):
    """Sum of losses with their weights.

    Args:
        terms: losses and weights; one of them at most is listwise.
    """

    def __init__(self, terms: Sequence[tuple[BatchLoss, float]]) -> None:
        super().__init__()
        self.terms = [loss for loss, _ in terms]
        self.weights = [weight for _, weight in terms]
        self.learning = nn.ModuleList(loss for loss in self.terms if isinstance(loss, nn.Module))
        if len([loss for loss in self.terms if options_of(loss)]) > 1:
            raise ValueError(
                "a sum can have one average-precision loss, got several; they differ in ties alone"
            )

    @property
    def options(self) -> LossOptions | None:
        """Of the listwise term, which has collectives that all workers take part in."""
        return next((found for loss in self.terms if (found := options_of(loss))), None)

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """() loss of ``descriptors`` (n, d) with ``labels`` (n,)."""
        losses = [loss(descriptors, labels) for loss in self.terms]
        return torch.stack(
            [weight * loss for weight, loss in zip(self.weights, losses, strict=True)]
        ).sum()

    def score(self, score: Callable[[BatchLoss], RowScores]) -> RowScores:
        """Loss and gradients of the sum from those of each term, which ``score`` finds.

        What else is known of a batch is that of the listwise term, where there is one.
        """
        found = [score(loss) for loss in self.terms]
        told = next((f for f in found if f.listwise_loss is not None), found[0])
        pairs = list(zip(self.weights, found, strict=True))
        by_parameter = {
            parameter: None if gradient is None else weight * gradient
            for loss, (weight, scores) in zip(self.terms, pairs, strict=True)
            for parameter, gradient in zip(
                parameters_of(loss), scores.parameter_gradients, strict=True
            )
        }
        return RowScores(
            torch.stack([weight * scores.loss for weight, scores in pairs]).sum(),
            told.average_precision,
            torch.stack([weight * scores.gradient for weight, scores in pairs]).sum(dim=0),
            told.diagnostics,
            tuple(by_parameter[parameter] for parameter in parameters_of(self)),
            told.listwise_loss,
            tuple(scores.loss for scores in found),
        )


def options_of(loss: BatchLoss) -> LossOptions | None:
    """Of the listwise loss, alone or as a term; None without one."""
    options = getattr(loss, "options", None)
    return options if isinstance(options, LossOptions) else None
