"""Which weights of a training are saved: the best by images that are held out for it.

Decided by the history alone, so that a run that is gone on with decides as it would have.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from apdist.config import Config
from apdist.training.events import Evaluated
from apdist.training.run_folder.history import Kept

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
    """By which they are the best; empty: they are the last ones."""
    mean_average_precision: float
    """There; 0 without a split."""

    def __str__(self) -> str:
        """Which, and why, in words."""
        kinds = [f"running mean ({self.ema:g} kept a step)"] if self.ema and self.step else []
        if self.blend != 1:
            kinds.append(f"{self.blend:g} of the way from the start")
        what = f"after step {self.step}{''.join(f', {kind}' for kind in kinds)}"
        if not self.split:
            return f"the last, {what}"
        found = f"{self.mean_average_precision:.4f}"
        return f"{what}: best mAP ({found}) of the split {self.split!r}"

    def as_json(self) -> dict[str, float | str]:
        """Its fields by name."""
        return dataclasses.asdict(self)


class Choice:
    """What the evaluations of one split say: the best weights so far, and whether to go on.

    Args:
        split: its name; empty: nothing is held out, nothing is chosen.
        patience: evaluations without a better one after which it is enough; 0: never.
        history: what has happened so far.
    """

    def __init__(self, split: str, patience: int, history: Iterable[Kept] = ()) -> None:
        self.split, self.patience = split, patience
        self.best: Evaluated | None = None
        self._num_since = 0
        for event in history:
            self.add(event)

    def add(self, event: Kept) -> None:
        """Take in what was measured."""
        if not isinstance(event, Evaluated) or not self.split or event.split != self.split:
            return
        self._num_since += 1
        if event.weights:
            self.best, self._num_since = event, 0

    def is_better(self, mean_average_precision: float) -> bool:
        """Whether weights with that figure are the best so far."""
        return self.best is None or mean_average_precision > self.best.figures[FIGURE]

    @property
    def is_enough(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.patience <= self._num_since

    def chosen(self, config: Config, last_step: int) -> ChosenWeights:
        """What is saved after ``last_step`` steps."""
        blend = config.training.blend[0] if config.training.blend else 1.0
        step, found = last_step, 0.0
        if self.best is not None:
            step, blend = self.best.step, self.best.blend
            found = self.best.figures[FIGURE]
        return ChosenWeights(
            step=step,
            blend=blend,
            ema=config.training.ema,
            split=self.split if self.best else "",
            mean_average_precision=found,
        )


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
