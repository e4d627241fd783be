"""Descriptors to loss and gradient."""

from typing import TYPE_CHECKING

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.loss.listwise import AveragePrecisionLoss as AveragePrecisionLoss
    from apdist.loss.listwise import average_precision as average_precision
    from apdist.loss.listwise import (
        average_precision_from_scores as average_precision_from_scores,
    )
    from apdist.loss.listwise import average_precision_loss as average_precision_loss
    from apdist.loss.scoring import Diagnostics as Diagnostics
    from apdist.loss.scoring import RowScores as RowScores

_HOMES = {
    **dict.fromkeys(
        [
            "AveragePrecisionLoss",
            "average_precision",
            "average_precision_from_scores",
            "average_precision_loss",
        ],
        "apdist.loss.listwise",
    ),
    **dict.fromkeys(["Diagnostics", "RowScores"], "apdist.loss.scoring"),
}
__all__ = [
    "AveragePrecisionLoss",
    "Diagnostics",
    "RowScores",
    "average_precision",
    "average_precision_from_scores",
    "average_precision_loss",
]

__getattr__ = lazily(__name__, _HOMES)
