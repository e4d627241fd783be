"""What the plan uses of the data is said, and what it cannot use refused."""

import pytest

from apdist.config import Config, override
from apdist_verbs.start.data_check import check_data


def test_what_is_used_and_left_out_is_said_before_training(small_config: Config) -> None:
    line = check_data(small_config)
    assert "48 training images of 8 classes" in line


def test_a_split_that_is_missing_is_refused_before_training(small_config: Config) -> None:
    with pytest.raises(ValueError, match="'val' is not in"):
        check_data(override(small_config, {"data.eval_split": "val"}))
