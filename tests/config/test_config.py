"""All options together: dotted names, JSON, hash, and what fits only together."""

import dataclasses

import pytest

from apdist.config import (
    Config,
    config_hash,
    flatten,
    from_json,
    is_decisive,
    override,
    to_json,
)
from apdist_verbs.presets import preset


def test_flatten_and_override_are_inverse() -> None:
    config = preset("landmarks_resnet101")
    assert override(Config(), flatten(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss.num_bin": 3}, "did you mean 'loss.num_bins'"),
        ({"data.group_size": 1000}, "exceeds training.batch_size"),
        ({"training.parameters": "sharded", "ray.num_workers": 1}, "sharded needs ray.num_workers"),
        ({"training.parameters": "sharded", "ray.num_workers": "1-4"}, "at least 2, got 1-4"),
    ],
)
def test_what_does_not_exist_or_fit_together_is_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


@pytest.mark.parametrize("text", ["[]", '{"loss": 3}'])
def test_json_that_has_no_sections_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected sections with options"):
        from_json(text)


def test_only_what_decides_the_result_changes_the_hash() -> None:
    config = Config()
    for free in ({"ray.num_workers": 7}, {"data.read_deadline_s": 7.0}):
        assert config_hash(override(config, free)) == config_hash(config)
    assert config_hash(override(config, {"training.seed": 7})) != config_hash(config)


def test_a_list_is_the_same_option_from_json_as_from_the_command_line() -> None:
    patterns = ("backbone.*=0.1", "linear.*=2")
    config = override(Config(), {"training.rates": patterns, "training.freeze": ["pooling"]})
    assert config.training.rates == patterns
    assert config.training.freeze == ("pooling",)
    assert from_json(to_json(config)) == config
    assert config_hash(from_json(to_json(config))) == config_hash(config)
    assert config_hash(config) != config_hash(override(config, {"training.freeze": []}))


def test_the_number_of_steps_decides_only_where_the_learning_rate_depends_on_it() -> None:
    config = Config()
    free = {"training.schedule": "step", "training.milestones": [9]}
    for changes, is_free in (({"training.schedule": "cosine"}, False), (free, True)):
        schedule = override(config, changes)
        assert is_decisive("training.steps", schedule) != is_free


def test_every_option_has_a_default() -> None:
    assert dataclasses.asdict(Config())
