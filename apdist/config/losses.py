"""The table of losses. A new one is a file in `apdist/loss` and a line here.

It names constructors and does not import them, so that the command line knows losses and options
without loading torch.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from apdist.config import baselines
from apdist.config.loss import ListwiseOptions


@dataclass(frozen=True)
class Loss:
    """A loss that a run can have."""

    constructor: str
    """Keyword options in, out comes a `BatchLoss`; where it learns centres, from the labels (C,) of
    the classes and the size of a descriptor as well."""
    options: type[Any]
    """Dataclass of what can be chosen of it."""

    @property
    def defaults(self) -> dict[str, Any]:
        """Each option with its default."""
        return {option.name: option.default for option in dataclasses.fields(self.options)}

    @property
    def has_centres(self) -> bool:
        """Whether it learns a centre for each class."""
        return issubclass(self.options, baselines.CentresOptions)

    @property
    def is_listwise(self) -> bool:
        """Whether it is computed in tiles, by all workers together."""
        return issubclass(self.options, ListwiseOptions)


LOSSES = {
    "ap": Loss("apdist.loss.listwise:AveragePrecisionLoss", ListwiseOptions),
    "tie_aware": Loss("apdist.loss.listwise:TieAwareLoss", ListwiseOptions),
    "tie_aware_simplified": Loss("apdist.loss.listwise:SimplifiedTieAwareLoss", ListwiseOptions),
    "triplet": Loss("apdist.loss.baselines:BatchHardTriplet", baselines.TripletOptions),
    "contrastive": Loss("apdist.loss.baselines:Contrastive", baselines.ContrastiveOptions),
    "calibration": Loss("apdist.loss.baselines:Calibration", baselines.CalibrationOptions),
    "multi_similarity": Loss(
        "apdist.loss.baselines:MultiSimilarity", baselines.MultiSimilarityOptions
    ),
    "smooth_ap": Loss(
        "apdist.loss.baselines:SmoothAveragePrecision", baselines.SmoothAveragePrecisionOptions
    ),
    "recall_at_k": Loss("apdist.loss.baselines:RecallAtK", baselines.RecallAtKOptions),
    "arcface": Loss("apdist.loss.centres:ArcFace", baselines.ArcFaceOptions),
    "cosface": Loss("apdist.loss.centres:CosFace", baselines.CosFaceOptions),
    "proxy_anchor": Loss("apdist.loss.centres:ProxyAnchor", baselines.ProxyAnchorOptions),
    "normalised_softmax": Loss(
        "apdist.loss.centres:NormalisedSoftmax", baselines.NormalisedSoftmaxOptions
    ),
}
"""By the name on the command line."""

METRIC_LEARNING = "pml:"
"""Begins the name of a loss of pytorch-metric-learning."""

_METRIC_LEARNING = Loss(
    "apdist.loss.metric_learning:metric_learning", baselines.MetricLearningOptions
)


def loss_of(kind: str) -> Loss:
    """The loss called ``kind``, which is in the table or begins with `METRIC_LEARNING`."""
    return _METRIC_LEARNING if kind.startswith(METRIC_LEARNING) else LOSSES[kind]
