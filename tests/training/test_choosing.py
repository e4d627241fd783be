"""Which weights are chosen, as the history tells it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from apdist.config import Config, override
from apdist.training.choosing import Choice, is_no_worse, refuse_unchoosable
from apdist.training.events import Evaluated
from apdist.training.run_folder.history import HistoryEvent


def evaluated(step: int, value: float, weights: str = "", split: str = "holdout") -> Evaluated:
    return Evaluated(
        step=step, split=split, figures={"map": value}, seconds=1, weights=weights, blend=0.5
    )


HISTORY: list[HistoryEvent] = [
    evaluated(0, 0.2, "a"),
    evaluated(0, 0.9, split="test"),
    evaluated(10, 0.6, "b"),
    evaluated(20, 0.59, "c"),
    evaluated(30, 0.5),
    evaluated(30, 0.8, split="test"),
]


def test_what_is_chosen_is_what_was_kept_last_and_says_what_was_best() -> None:
    config = override(Config(), {"training.ema": 0.9, "training.blend": [0.5, 1.0]})
    choice = Choice("holdout", 0, HISTORY[:3])
    kinds = "running mean (0.9 kept a step), 0.5 of the way from the start"
    assert str(choice.chosen(config, 30)) == (
        f"after step 10, {kinds}: best mAP (0.6000) of the split 'holdout'"
    )
    assert str(Choice("holdout", 0, HISTORY).chosen(config, 30)) == (
        f"after step 20, {kinds}: mAP 0.5900 of the split 'holdout', which cannot tell it from the "
        "best (0.6000 after step 10)"
    )
    assert choice.chosen(config, 30).as_json()["step"] == 10


def error_between_classes(change: Tensor, labels: Tensor) -> float:
    """Of the mean ``change``, from means of equally large classes."""
    means = torch.stack([change[labels == label].mean() for label in labels.unique()])
    return (means.std() / len(means) ** 0.5).item()


def test_weights_are_no_worse_within_the_standard_error_of_the_difference() -> None:
    labels = torch.arange(6).repeat_interleave(4) * 7 - 20
    generator = torch.Generator().manual_seed(0)
    best = torch.rand(24, generator=generator, dtype=torch.float64)
    change = torch.randn(24, generator=generator, dtype=torch.float64) / 10
    change -= change.mean()
    error = error_between_classes(change, labels)
    assert is_no_worse(best + change - 0.99 * error, best, labels)
    assert not is_no_worse(best + change - 1.01 * error, best, labels)
    # Every image of a class alike: more images of it are no more evidence.
    wide, wide_labels = change.repeat_interleave(9), labels.repeat_interleave(9)
    assert is_no_worse(wide - 0.99 * error, torch.zeros_like(wide), wide_labels)
    assert not is_no_worse(wide - 1.01 * error, torch.zeros_like(wide), wide_labels)


def test_what_all_classes_find_worse_is_worse_and_what_none_does_is_not() -> None:
    labels, best = torch.tensor([3, 3, 5, 5, 9]), torch.full((5,), 0.5)
    best[4] = torch.nan  # a class of one image has no positive
    assert is_no_worse(best, best, labels)
    assert is_no_worse(best + 0.1, best, labels)
    assert not is_no_worse(best - 0.1, best, labels)
    assert not is_no_worse(best[:2] - torch.tensor([0.1, 0.3]), best[:2], labels[:2])


def test_patience_counts_evaluations_of_the_split_without_a_better_one() -> None:
    for patience, is_enough in ((0, False), (1, True), (2, True), (3, False)):
        assert Choice("holdout", patience, HISTORY).is_enough == is_enough, patience


def test_without_a_split_the_last_weights_are_saved() -> None:
    choice = Choice("", 1, HISTORY)
    assert not choice.is_enough
    assert str(choice.chosen(Config(), 30)) == "the last, after step 30"
    blended = override(Config(), {"training.blend": [0.5]})
    assert choice.chosen(blended, 30).blend == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training.patience": 2}, "training.patience 2 needs images to choose by; hold some out"),
        ({"training.blend": [0.5, 1.0]}, "training.blend has 2 values, .* or give one value"),
    ],
)
def test_options_that_choose_are_refused_without_images_to_choose_by(
    changes: dict[str, Any], message: str
) -> None:
    config = override(Config(), changes)
    refuse_unchoosable(config, 1)
    with pytest.raises(ValueError, match=message):
        refuse_unchoosable(config, 0)
