"""Descriptors to loss and gradient."""

from typing import TYPE_CHECKING

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.config.loss import LossOptions as LossOptions
    from apdist.loss.gradient import score_own_rows as score_own_rows
    from apdist.loss.listwise import AveragePrecisionLoss as AveragePrecisionLoss
    from apdist.loss.listwise import average_precision as average_precision
    from apdist.loss.listwise import (
        average_precision_from_scores as average_precision_from_scores,
    )
    from apdist.loss.listwise import average_precision_loss as average_precision_loss
    from apdist.loss.matryoshka import Matryoshka as Matryoshka
    from apdist.loss.results import Diagnostics as Diagnostics
    from apdist.loss.results import RowScores as RowScores

_HOMES = {
    **dict.fromkeys(["LossOptions"], "apdist.config.loss"),
    **dict.fromkeys(["score_own_rows"], "apdist.loss.gradient"),
    **dict.fromkeys(
        [
            "AveragePrecisionLoss",
            "average_precision",
            "average_precision_from_scores",
            "average_precision_loss",
        ],
        "apdist.loss.listwise",
    ),
    **dict.fromkeys(["Matryoshka"], "apdist.loss.matryoshka"),
    **dict.fromkeys(["Diagnostics", "RowScores"], "apdist.loss.results"),
}
__all__ = [
    "AveragePrecisionLoss",
    "Diagnostics",
    "LossOptions",
    "Matryoshka",
    "RowScores",
    "average_precision",
    "average_precision_from_scores",
    "average_precision_loss",
    "score_own_rows",
]

__getattr__ = lazily(__name__, _HOMES)
