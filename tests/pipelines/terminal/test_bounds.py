"""Numbers that are too small."""

import pytest

from apdist_verbs.terminal.bounds import at_least


def test_the_first_number_that_is_too_small_is_named_with_its_value() -> None:
    at_least(1, one=1, more=2.5)
    with pytest.raises(ValueError, match="^--so-many must be at least 1, got 0$"):
        at_least(1, one=1, so_many=0, other=-1)
    with pytest.raises(ValueError, match="^--hours must be at least 0, got nan$"):
        at_least(0, hours=float("nan"))
