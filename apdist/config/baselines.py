"""Options of the losses to compare with, each written once: the losses themselves extend these.

They stand here so that the command line can check them, and say which loss has which, without
loading torch.
"""

import math
from dataclasses import dataclass

from apdist.config.values import at_least, in_range


@dataclass(frozen=True, kw_only=True)
class TripletOptions:
    """Options of the batch-hard triplet loss."""

    margin: float = 0.1
    """Of cosine similarity."""

    def __post_init__(self) -> None:
        in_range("margin", self.margin, 0, 2)


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions:
    """Options of the contrastive loss."""

    margin: float = 0.7
    """A Euclidean distance of unit vectors."""

    def __post_init__(self) -> None:
        in_range("margin", self.margin, 0, 2)


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """Options of the calibration loss, with the margins of ROADMAP."""

    positive_margin: float = 0.9
    """Cosine similarity that positives should have."""
    negative_margin: float = 0.6
    """Cosine similarity that negatives should not exceed."""

    def __post_init__(self) -> None:
        in_range("positive_margin", self.positive_margin, -1, 1)
        in_range("negative_margin", self.negative_margin, -1, 1)


@dataclass(frozen=True, kw_only=True)
class MultiSimilarityOptions:
    """Options of the multi-similarity loss."""

    alpha: float = 2.0
    """Sharpness for positives."""
    beta: float = 50.0
    """Sharpness for negatives."""
    base: float = 0.5
    """Similarity that divides them."""
    epsilon: float = 0.1
    """Margin of the mining."""

    def __post_init__(self) -> None:
        positive("alpha", self.alpha)
        positive("beta", self.beta)
        in_range("base", self.base, -1, 1)
        in_range("epsilon", self.epsilon, -2, 2)


@dataclass(frozen=True, kw_only=True)
class SmoothAveragePrecisionOptions:
    """Options of Smooth-AP."""

    temperature: float = 0.01
    """Of the sigmoid."""
    include_self: bool = True
    """Each query is also one of its own positives, as in the published code of Smooth-AP."""

    def __post_init__(self) -> None:
        positive("temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class RecallAtKOptions:
    """Options of the recall@k surrogate."""

    ks: tuple[int, ...] = (1, 2, 4, 8, 16)
    """The mean is over these."""
    rank_temperature: float = 0.01
    """Of the sigmoid that counts the images above."""
    recall_temperature: float = 1.0
    """Of the sigmoid that compares a rank with k."""
    recall_temperatures: tuple[float, ...] = ()
    """The same, one for each of ks, if any are named; the published ones are the ks themselves."""

    def __post_init__(self) -> None:
        if not self.ks:
            raise ValueError("ks must name one k at least; got none")
        for k in self.ks:
            at_least("ks", k, 1)
        positive("rank_temperature", self.rank_temperature)
        positive("recall_temperature", self.recall_temperature)
        for temperature in self.recall_temperatures:
            positive("recall_temperatures", temperature)
        self._refuse_other_temperatures()

    def _refuse_other_temperatures(self) -> None:
        given = self.recall_temperatures
        if given and len(given) != len(self.ks):
            raise ValueError(
                f"recall_temperatures must be one for each of ks ({' '.join(map(str, self.ks))}), "
                f"got {len(given)}; give {len(self.ks)}"
            )
        if given and self.recall_temperature != RecallAtKOptions.recall_temperature:
            raise ValueError(
                "recall_temperature is one for all ks and recall_temperatures one for each, got "
                "both; leave one out"
            )


@dataclass(frozen=True, kw_only=True)
class CentresOptions:
    """Options of every loss that learns a centre for each class."""

    centres_rate: float = 1.0
    """Learning rate of the centres, in those of the network."""

    def __post_init__(self) -> None:
        positive("centres_rate", self.centres_rate)


@dataclass(frozen=True, kw_only=True)
class ArcFaceOptions(CentresOptions):
    """Options of ArcFace."""

    margin: float = 0.5
    """An angle in radians; 0.5 are 28.6 degrees."""
    scale: float = 64.0
    """Of the cosines, before the softmax."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("margin", self.margin, 0, math.pi)
        positive("scale", self.scale)


@dataclass(frozen=True, kw_only=True)
class CosFaceOptions(CentresOptions):
    """Options of CosFace."""

    margin: float = 0.35
    """Of cosine similarity."""
    scale: float = 64.0
    """Of the cosines, before the softmax."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("margin", self.margin, 0, 2)
        positive("scale", self.scale)


@dataclass(frozen=True, kw_only=True)
class ProxyAnchorOptions(CentresOptions):
    """Options of Proxy-Anchor."""

    margin: float = 0.1
    """Of cosine similarity."""
    alpha: float = 32.0
    """Sharpness."""

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("margin", self.margin, 0, 2)
        positive("alpha", self.alpha)


@dataclass(frozen=True, kw_only=True)
class NormalisedSoftmaxOptions(CentresOptions):
    """Options of normalised softmax."""

    temperature: float = 0.05
    """Of the softmax."""

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("temperature", self.temperature)


@dataclass(frozen=True, kw_only=True)
class MetricLearningOptions(CentresOptions):
    """Options of a loss of pytorch-metric-learning; a centres_rate only where it has parameters."""

    arguments: tuple[str, ...] = ()
    """Of its constructor, as NAME=LITERAL."""

    def __post_init__(self) -> None:
        super().__post_init__()
        arguments_of(self.arguments)


def positive(name: str, value: float) -> None:
    """Refuse what is not a finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, got {value}")


def arguments_of(texts: tuple[str, ...]) -> dict[str, object]:
    """What ``margin=0.3`` and the like say; values are read as Python literals, nothing is run.

    Raises:
        ValueError: a text is no NAME=LITERAL, or a name comes twice.
    """
    import ast

    found: dict[str, object] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name.isidentifier():
            raise ValueError(f"arguments must be NAME=LITERAL, as margin=0.3, got {text!r}")
        if name in found:
            raise ValueError(f"arguments names {name!r} twice; give it once")
        try:
            found[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise ValueError(
                f"arguments: {value!r} of {name} is no literal; expected a number, True, None, "
                f"a list, or text in quotes: \"{name}='all'\""
            ) from None
    return found
