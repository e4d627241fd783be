"""The section ``loss``: which loss, or which sum of losses, and the options that it has.

An option of a loss to compare with is ``auto`` until somebody chooses a value: each loss has a
default of its own. A value for an option that the loss does not have is refused.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from apdist.config.baselines import CentresOptions
from apdist.config.loss import TiledOptions
from apdist.config.losses import LOSSES, METRIC_LEARNING, loss_of
from apdist.config.values import suggestion

Auto = Literal["auto"]


@dataclass(frozen=True, kw_only=True)
class LossKind:
    """Which loss."""

    kind: str = "ap"
    """ap, tie_aware or tie_aware_simplified (listwise, any batch size); one to compare with, as
    triplet, contrastive or smooth_ap (a wrong name lists them all); or pml:NAME, a loss of
    pytorch-metric-learning (extra `metric-learning`). An option that is auto has that loss's own
    default, which its text names."""
    terms: tuple[str, ...] = ()
    """A weighted sum in place of kind, as NAME=WEIGHT: ap=1 calibration=0.1."""
    matryoshka: tuple[int, ...] = ()
    """For descriptors that are cut later (`--dim`): the mean of the loss and of that of the first
    so many numbers of each descriptor, of unit length again: 64 128."""


@dataclass(frozen=True, kw_only=True)
class LossConfig(TiledOptions, LossKind):
    """Average-precision loss (Revaud et al., 2019), or one to compare with."""

    section: ClassVar[str] = "loss."
    """Its name in the configuration."""

    include_self: Literal["auto", "yes", "no"] = "auto"
    """A query is also its own positive: ap, tie_aware, tie_aware_simplified (no), smooth_ap (yes;
    as in its published code)."""
    margin: float | Auto = "auto"
    """triplet (0.1), cosface (0.35), proxy_anchor (0.1): of cosine similarity; contrastive (0.7): a
    distance of unit vectors; arcface (0.5): an angle in radians."""
    positive_margin: float | Auto = "auto"
    """Cosine similarity that positives should have: calibration (0.9)."""
    negative_margin: float | Auto = "auto"
    """Cosine similarity that negatives should not exceed: calibration (0.6)."""
    temperature: float | Auto = "auto"
    """Of the sigmoid that counts ranks: smooth_ap (0.01); of the softmax: normalised_softmax
    (0.05)."""
    rank_temperature: float | Auto = "auto"
    """Of the sigmoid that counts ranks: recall_at_k (0.01)."""
    recall_temperature: float | Auto = "auto"
    """Of the sigmoid that compares a rank with k: recall_at_k (1)."""
    recall_temperatures: tuple[float, ...] = ()
    """The same, one for each of ks, if any are named: recall_at_k (none; in its published code the
    ks themselves, 1 2 4 8 16)."""
    ks: tuple[int, ...] = ()
    """The mean is over the recalls at these, if any are named: recall_at_k (1 2 4 8 16)."""
    alpha: float | Auto = "auto"
    """Sharpness for positives: multi_similarity (2); for both: proxy_anchor (32)."""
    beta: float | Auto = "auto"
    """Sharpness for negatives: multi_similarity (50)."""
    base: float | Auto = "auto"
    """Similarity that divides positives and negatives: multi_similarity (0.5)."""
    epsilon: float | Auto = "auto"
    """Margin of the mining: multi_similarity (0.1)."""
    scale: float | Auto = "auto"
    """Of cosines before the softmax: arcface (64), cosface (64)."""
    centres_rate: float | Auto = "auto"
    """Learning rate of the centres of classes, in those of the network: arcface, cosface,
    proxy_anchor, normalised_softmax and pml:NAME with parameters (1)."""
    arguments: tuple[str, ...] = ()
    """Of the constructor of pml:NAME, as NAME=LITERAL: margin=0.3 swap=True."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sizes(self.matryoshka)
        for kind in self.weights:
            _refuse_unknown(kind)
        self._refuse_impossible_sums()
        for name in _chosen(self):
            self.refuse_without(name)
        for kind in self.weights:
            try:
                loss_of(kind).options(**self.options_of(kind))
            except ValueError as error:
                raise ValueError(f"{self.section}{error} ({kind})") from error

    @property
    def weights(self) -> dict[str, float]:
        """The losses, with what each counts for."""
        return _read_terms(self.terms) if self.terms else {self.kind: 1.0}

    @property
    def shown(self) -> str:
        """The loss in a word, a sum in a few."""
        shown = " + ".join(f"{weight:g} {kind}" for kind, weight in self.weights.items())
        cut = f", matryoshka {' '.join(map(str, self.matryoshka))}" if self.matryoshka else ""
        return (shown if self.terms else self.kind) + cut

    @property
    def names_of_terms(self) -> list[str]:
        """Of the losses that are known one by one, in the order of `RowScores.term_losses`."""
        terms = list(self.weights) if self.terms else []
        return terms + [f"at_{size}" for size in (*self.matryoshka, "whole") if self.matryoshka]

    @property
    def rate_of_centres(self) -> float:
        """Learning rate of what a loss learns itself, in those of the network."""
        return CentresOptions.centres_rate if self.centres_rate == "auto" else self.centres_rate

    def has(self, name: str) -> bool:
        """Whether one of the losses has the option ``name``."""
        return name in _KINDS or any(name in loss_of(kind).defaults for kind in self.weights)

    def options_of(self, kind: str) -> dict[str, Any]:
        """Options of the loss ``kind`` that have a value here."""
        valued = (*_TILED, *_chosen(self))
        found = {name: getattr(self, name) for name in loss_of(kind).defaults if name in valued}
        if "include_self" in found:
            found["include_self"] = found["include_self"] == "yes"
        return found

    def refuse_without(self, name: str) -> None:
        """Refuse a value for the option ``name`` where no loss has it, or several do in a sum.

        Raises:
            ValueError: says which options there are instead, and which losses have this one.
        """
        owners = [kind for kind in self.weights if name in loss_of(kind).defaults]
        if name in _KINDS or len(owners) == 1:
            return
        said = f"{self.section}{name}"
        if (value := getattr(self, name)) not in ("auto", ()):
            said += f" {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
        if owners:
            raise ValueError(
                f"{said} could be of {' or of '.join(owners)}: in a sum of both, leave it out"
            )
        own = dict.fromkeys(n for kind in self.weights for n in loss_of(kind).defaults)
        having = [kind for kind, loss in LOSSES.items() if name in loss.defaults]
        raise ValueError(
            f"{said} is no option of {self.shown}, which has {', '.join(own)} (those that have it: "
            f"{', '.join(having) or METRIC_LEARNING + 'NAME'}); leave it out"
            f"{', or give auto' if value != () and name not in _TILED else ''}"
        )

    def _refuse_impossible_sums(self) -> None:
        if not self.terms:
            return
        if self.kind not in (LossKind.kind, *self.weights):
            raise ValueError(
                f"give loss.kind ({self.kind}) or loss.terms ({' '.join(self.terms)}), not both; "
                f"with terms leave kind as {LossKind.kind}"
            )
        listwise = [kind for kind in self.weights if loss_of(kind).is_listwise]
        if len(listwise) > 1:
            raise ValueError(
                f"loss.terms can have one listwise loss, got {' and '.join(listwise)}; they differ "
                "in ties alone, so take one of them"
            )


_KINDS = frozenset(option.name for option in dataclasses.fields(LossKind))
"""Options that say which loss."""
_TILED = frozenset(option.name for option in dataclasses.fields(TiledOptions))
"""Options that have a value whatever the loss: a preset may set them for another one."""


def _chosen(config: LossConfig) -> list[str]:
    """Options of single losses for which somebody has chosen a value."""
    return [
        option.name
        for option in dataclasses.fields(config)
        if option.name not in _KINDS | _TILED and getattr(config, option.name) != option.default
    ]


def _check_sizes(sizes: tuple[int, ...]) -> None:
    if sizes and (sizes[0] < 1 or any(a >= b for a, b in itertools.pairwise(sizes))):
        raise ValueError(
            "loss.matryoshka must be numbers of at least 1, each larger than the one before, as "
            f"64 128; got {' '.join(map(str, sizes))}"
        )


def _refuse_unknown(kind: str) -> None:
    if kind not in LOSSES and not (kind.startswith(METRIC_LEARNING) and len(kind) > 4):
        raise ValueError(
            f"loss.kind must be one of {', '.join(LOSSES)} or pml:NAME, got {kind!r}"
            f"{suggestion(kind, list(LOSSES))}"
        )


@functools.cache
def _read_terms(terms: tuple[str, ...]) -> dict[str, float]:
    """Losses and their weights.

    Raises:
        ValueError: a text is no NAME=WEIGHT, or a loss comes twice.
    """
    weights: dict[str, float] = {}
    for term in terms:
        kind, _, text = term.rpartition("=")
        try:
            weight = float(text)
        except ValueError:
            weight = math.nan
        if not kind or not 0 < weight < math.inf:
            raise ValueError(
                f"loss.terms must be NAME=WEIGHT with weights above 0, as ap=1 calibration=0.1, "
                f"got {term!r}"
            )
        if kind in weights:
            raise ValueError(f"loss.terms names {kind!r} twice; add up its weights")
        weights[kind] = weight
    return weights


def fitting(changes: Mapping[str, Any], loss: LossConfig) -> dict[str, Any]:
    """``changes`` by dotted name without options that ``loss``, once changed, does not have."""
    chosen = {name: changes[f"loss.{name}"] for name in _KINDS if f"loss.{name}" in changes}
    if "terms" in chosen:
        chosen["terms"] = tuple(chosen["terms"])
    changed = dataclasses.replace(loss, **chosen)
    return {
        name: value
        for name, value in changes.items()
        if not name.startswith("loss.") or changed.has(name.removeprefix("loss."))
    }
