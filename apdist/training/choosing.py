"""Which weights of a training are saved: the last that held-out images do not find worse.

Few held-out classes cannot tell the weights of a training's middle from those of its end: their
mean AP rises and falls by more than what lies between. So weights that come later are preferred to
the best, unless their mean AP is lower by more than the standard error of that difference (the
rule of Breiman et al., Classification and Regression Trees, 1984, section 3.4.3).
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from apdist.config import Config
from apdist.training.events import Evaluated
from apdist.training.run_folder.history import HistoryEvent

FIGURE = "map"
"""By which weights are compared."""


@dataclass(frozen=True, kw_only=True)
class ChosenWeights:
    """Which weights a saved model has, and why."""

    step: int
    """Steps done."""
    blend: float
    """How far they lie on the way from the start to the trained ones."""
    ema: float
    """What their running mean keeps at each step; 0: no mean."""
    split: str
    """The split that they were chosen by; empty: they are the last ones."""
    mean_average_precision: float
    """On ``split``, after ``step`` steps; 0 without a split."""
    best_step: int
    """Steps done when ``split`` had the highest mAP."""
    best_mean_average_precision: float
    """After ``best_step`` steps."""

    def __str__(self) -> str:
        """Which, and why, in words."""
        kinds = [f"running mean ({self.ema:g} kept a step)"] if self.ema and self.step else []
        if self.blend != 1:
            kinds.append(f"{self.blend:g} of the way from the start")
        what = f"after step {self.step}{''.join(f', {kind}' for kind in kinds)}"
        if not self.split:
            return f"the last, {what}"
        found = f"{self.mean_average_precision:.4f}"
        if self.best_step == self.step:
            return f"{what}: best mAP ({found}) of the split {self.split!r}"
        return (
            f"{what}: mAP {found} of the split {self.split!r}, which cannot tell it from the best "
            f"({self.best_mean_average_precision:.4f} after step {self.best_step})"
        )

    def as_json(self) -> dict[str, float | str]:
        """Its fields by name."""
        return dataclasses.asdict(self)


class Choice:
    """What the evaluations of one split say: which weights to keep, and whether to go on.

    Decided by the history, so that a run that is gone on with decides as it would have.

    Args:
        split: its name; empty: nothing is held out, nothing is chosen.
        patience: evaluations without a better one after which it is enough; 0: never.
        history: what has happened so far.
    """

    def __init__(self, split: str, patience: int, history: Iterable[HistoryEvent] = ()) -> None:
        self.split, self.patience = split, patience
        self.best: Evaluated | None = None
        """With the highest mean AP so far."""
        self.kept: Evaluated | None = None
        """Whose weights are kept."""
        self._num_since = 0
        for event in history:
            self.add(event)

    def add(self, event: HistoryEvent) -> None:
        """Take in what was measured."""
        if not isinstance(event, Evaluated) or not self.split or event.split != self.split:
            return
        self._num_since += 1
        if self.best is None or event.figures[FIGURE] > self.best.figures[FIGURE]:
            self.best, self._num_since = event, 0
        if event.weights:
            self.kept = event

    @property
    def is_enough(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self._num_since

    def chosen(self, config: Config, last_step: int) -> ChosenWeights:
        """What is saved after ``last_step`` steps."""
        blend = config.training.blend[0] if config.training.blend else 1.0
        if self.kept is None or self.best is None:
            return ChosenWeights(
                step=last_step,
                blend=blend,
                ema=config.training.ema,
                split="",
                mean_average_precision=0.0,
                best_step=last_step,
                best_mean_average_precision=0.0,
            )
        return ChosenWeights(
            step=self.kept.step,
            blend=self.kept.blend,
            ema=config.training.ema,
            split=self.split,
            mean_average_precision=self.kept.figures[FIGURE],
            best_step=self.best.step,
            best_mean_average_precision=self.best.figures[FIGURE],
        )


def is_no_worse(found: Tensor, best: Tensor, labels: Tensor) -> bool:
    """Whether the mean of ``found`` is not below that of ``best`` by more than its standard error.

    Images of a class are alike, so the error of the mean difference is that over classes.

    Args:
        found: (q,) AP of the queries with some weights; NaN where there is no positive.
        best: (q,) AP of the same queries with others.
        labels: (q,) their classes.
    """
    counts = ~found.isnan()
    change = (found - best)[counts]
    mean = change.mean()
    if mean >= 0:
        return True
    _, places = labels[counts].unique(return_inverse=True)
    sums = change.new_zeros(int(places.max()) + 1).index_add_(0, places, change - mean)
    if len(sums) < 2:
        return False
    error = (sums.square().sum() * len(sums) / (len(sums) - 1)).sqrt() / len(change)
    return bool(mean >= -error)


def refuse_unchoosable(config: Config, num_validation_images: int) -> None:
    """Refuse options that choose among weights where no images are held out to choose by.

    Raises:
        ValueError: there are such options.
    """
    if num_validation_images:
        return
    remedy = "hold some out (--data.holdout-share 0.1), or name a split (--data.validation-split)"
    if config.training.patience:
        raise ValueError(
            f"training.patience {config.training.patience} needs images to choose by; {remedy}"
        )
    if len(config.training.blend) > 1:
        raise ValueError(
            f"training.blend has {len(config.training.blend)} values, and there are no images to "
            f"choose one by; {remedy}, or give one value"
        )
