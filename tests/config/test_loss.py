"""Options of the loss: what is refused; type checkers and `help` see the fields of LossOptions."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from apdist.loss import (
    AveragePrecisionLoss,
    LossOptions,
    average_precision,
    average_precision_from_scores,
    average_precision_loss,
)

ONE, LABEL = torch.ones(1, 1), torch.zeros(1).long()


@pytest.mark.parametrize(
    "callable_", [AveragePrecisionLoss, average_precision, average_precision_loss]
)
def test_help_shows_every_option_with_its_default(callable_: Callable[..., Any]) -> None:
    shown = inspect.signature(callable_).parameters
    for option in dataclasses.fields(LossOptions):
        assert shown[option.name].default == option.default
        assert shown[option.name].kind == inspect.Parameter.KEYWORD_ONLY
    assert "options" not in shown


def test_what_does_not_matter_to_given_scores_is_no_option_of_them() -> None:
    shown = inspect.signature(average_precision_from_scores).parameters
    assert list(shown) == [
        *("scores", "positive", "num_bins", "min_score", "max_score", "variant", "ignore")
    ]
    with pytest.raises(TypeError, match="include_self"):
        average_precision_from_scores(ONE, ONE.bool(), include_self=True)  # type: ignore[call-arg]


def test_a_misspelt_option_is_refused_by_python_and_type_checkers() -> None:
    # Without its "type: ignore", mypy reports each of these; with none to ignore, that.
    with pytest.raises(TypeError, match="num_bin"):
        AveragePrecisionLoss(num_bin=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="num_bin"):
        average_precision(ONE, LABEL, num_bin=3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="variant must be one of"):
        average_precision_loss(ONE, LABEL, variant="map")  # type: ignore[arg-type]


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        LossOptions().num_bins = 3  # type: ignore[misc]


def test_numbers_of_numpy_are_taken_and_kept_as_those_of_python() -> None:
    options = LossOptions(num_bins=np.int64(8), max_score=np.float32(0.5))  # type: ignore[arg-type]
    assert type(options.num_bins) is int
    assert options == LossOptions(num_bins=8, max_score=0.5)
    with pytest.raises(ValueError, match="num_bins must be of type int, got True"):
        LossOptions(num_bins=np.bool_(True))  # type: ignore[arg-type]
