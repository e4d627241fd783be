"""Signatures that show the fields of a dataclass."""

import inspect
from dataclasses import dataclass
from typing import Any

import pytest
from torch import Tensor

from apdist.loss.keywords import function_of, module_of


@dataclass(kw_only=True)
class Options:
    """Two of them."""

    num_bins: int = 20
    variant: str = "ap"


def test_a_function_shows_its_own_arguments_and_then_the_fields() -> None:
    @function_of(Options)
    def loss(descriptors: Tensor, labels: Tensor, **options: Any) -> Tensor:
        return descriptors

    found = inspect.signature(loss).parameters
    assert list(found) == ["descriptors", "labels", "num_bins", "variant"]
    assert found["num_bins"].default == 20


def test_a_module_shows_the_fields_and_is_made_with_them() -> None:
    class Loss:
        @module_of(Options)
        def __init__(self, **options: Any) -> None:
            self.options = Options(**options)

    assert list(inspect.signature(Loss).parameters) == ["num_bins", "variant"]
    assert Loss(variant="x").options == Options(variant="x")


def test_a_misspelled_keyword_is_told_of_what_was_called_with_what_may_be_meant() -> None:
    class Loss:
        @module_of(Options)
        def __init__(self, **options: Any) -> None:
            self.options = Options(**options)

    with pytest.raises(TypeError, match=r"^Loss\(\) has no argument 'bins'; did you mean 'num_"):
        Loss(bins=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"'x'; it takes num_bins, variant$"):
        Loss(x=3)  # type: ignore[call-arg]
