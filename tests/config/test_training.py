"""What the options of the step and the loop around it refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training.batch_size": 33}, "must be even"),
        ({"training.batch_size": 2}, "training.batch_size must be at least 4"),
        ({"training.chunk_size": 0}, "training.chunk_size must be at least 1"),
        ({"training.learning_rate": float("nan")}, "must be positive"),
        ({"training.warmup_share": 1.1}, "training.warmup_share must lie in"),
        ({"training.memory_gib": -1.0}, "training.memory_gib must lie in"),
        ({"evaluation.every_steps": 0}, "evaluation.every_steps must be at least 1"),
        ({"checkpoint.keep": 0}, "checkpoint.keep must be at least 1"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)
