"""What the options of the step and the loop around it refuse."""

import pytest

from apdist.config import Config, override
from apdist.config.training import named_set


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
        ({"evaluation.sets_every_steps": -1}, "evaluation.sets_every_steps must be at least 0"),
        ({"evaluation.sets": ["shards/a"]}, "NAME=SHARDS or NAME=SHARDS:SPLIT.*got 'shards/a'"),
        ({"evaluation.sets": ["a="]}, "NAME=SHARDS or NAME=SHARDS:SPLIT.*got 'a='"),
        ({"evaluation.sets": ["a=b:"]}, "NAME=SHARDS or NAME=SHARDS:SPLIT.*got 'a=b:'"),
        ({"evaluation.sets": ["a b=c"]}, "with names of letters.*got 'a b=c'"),
        ({"evaluation.sets": ["a=b", "a=c"]}, "evaluation.sets names two sets 'a'"),
        ({"checkpoint.keep": 0}, "checkpoint.keep must be at least 1"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


@pytest.mark.parametrize(
    ("text", "name", "shards", "split"),
    [
        ("grocery=shards/grocery:test", "grocery", "shards/grocery", "test"),
        ("ro-1.x_2=shards/roxford5k", "ro-1.x_2", "shards/roxford5k", ""),
        ("a=s3://bucket/a", "a", "s3://bucket/a", ""),
        ("a=s3://bucket/a=b:test", "a", "s3://bucket/a=b", "test"),
        ("a=http://host:8000/a", "a", "http://host:8000/a", ""),
    ],
)
def test_a_set_has_a_name_and_a_place(text: str, name: str, shards: str, split: str) -> None:
    found = named_set(text)
    assert (found.name, found.shards, found.split) == (name, shards, split)
    assert str(found) == text
    assert override(Config(), {"evaluation.sets": [text]}).evaluation.named_sets == [found]
