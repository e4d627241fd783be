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
        ({"training.layer_decay": 0.0}, r"training.layer_decay must lie in \(0, 1\], got 0.0"),
        ({"training.rates": ["backbone.*"]}, "as \"backbone.*=0.1\"; got 'backbone.*'"),
        ({"training.rates": ["linear=0"]}, "positive factors"),
        ({"training.unfreeze_at": 3}, "training.unfreeze_at 3 needs training.freeze"),
        ({"training.warmup_steps": 241}, r"training.warmup_steps must lie in \[0, 240\]"),
        ({"training.final_share": 1.1}, "training.final_share must lie in"),
        ({"training.schedule": "step"}, r"milestones \(none\) and training.schedule step do not"),
        ({"training.milestones": [3]}, r"milestones \(3\) and training.schedule one_cycle do not"),
        (
            {"training.schedule": "step", "training.milestones": [5, 3]},
            "training.milestones must be positive and rising, got 5 3",
        ),
        (
            {"training.milestone_factor": float("nan")},
            "training.milestone_factor must be positive, got nan",
        ),
        ({"evaluation.every_steps": 0}, "evaluation.every_steps must be at least 1"),
        ({"checkpoint.keep": 0}, "checkpoint.keep must be at least 1"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)
