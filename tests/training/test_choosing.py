"""Which weights are chosen, as the history tells it."""

from typing import Any

import pytest

from apdist.config import Config, override
from apdist.training.choosing import Choice, refuse_unchoosable
from apdist.training.events import Evaluated
from apdist.training.run_folder.history import Kept


def evaluated(step: int, value: float, weights: str = "", split: str = "holdout") -> Evaluated:
    return Evaluated(
        step=step, split=split, figures={"map": value}, seconds=1, weights=weights, blend=0.5
    )


HISTORY: list[Kept] = [
    evaluated(0, 0.2, "a"),
    evaluated(0, 0.9, split="test"),
    evaluated(10, 0.6, "b"),
    evaluated(20, 0.6),
    evaluated(30, 0.5),
    evaluated(30, 0.8, split="test"),
]


def test_the_best_is_chosen_and_the_first_of_equal_ones() -> None:
    choice = Choice("holdout", 0, HISTORY)
    assert not choice.is_better(0.6)
    assert choice.is_better(0.61)
    config = override(Config(), {"training.ema": 0.9, "training.blend": [0.5, 1.0]})
    assert str(choice.chosen(config, 30)) == (
        "after step 10, running mean (0.9 kept a step), 0.5 of the way from the start: best mAP "
        "(0.6000) of the split 'holdout'"
    )
    assert choice.chosen(config, 30).as_json()["step"] == 10


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
