import ast
import dataclasses
import inspect

import pytest

from apdist.config import Config, config_hash, flatten, from_json, override, to_json
from apdist_verbs.presets import PRESETS, preset


def test_json_gives_back_every_preset() -> None:
    for name in PRESETS:
        assert from_json(to_json(preset(name))) == preset(name)


def test_flatten_and_override_are_inverse() -> None:
    config = preset("landmarks_resnet101")
    assert override(Config(), flatten(config)) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss.num_bin": 3}, "did you mean 'loss.num_bins'"),
        ({"loss.num_bins": "many"}, "loss.num_bins must be of type int"),
        ({"loss.num_bins": True}, "loss.num_bins must be of type int"),
        ({"loss.num_bins": 1}, "at least 2, got 1"),
        ({"loss.cache_mib": "all"}, "loss.cache_mib must be of type int or auto, got 'all'"),
        ({"loss.cache_mib": 0.5}, "loss.cache_mib must be of type int"),
        ({"loss.cache_mib": -1}, "loss.cache_mib must be at least 0"),
        ({"loss.precision": "tf32"}, "loss.precision must be one of float32, bf16x3"),
        ({"training.learning_rate": float("nan")}, "must be positive"),
        ({"training.optimizer": "lamb"}, "one of adamw, adam, sgd"),
        ({"training.batch_size": 33}, "must be even"),
        ({"ray.address": "ray://head:10001"}, "local, auto or HOST:PORT"),
        ({"ray.address": "head"}, "local, auto or HOST:PORT"),
        ({"ray.use_gpu": True, "ray.num_workers": 0}, "ray.use_gpu needs ray.num_workers of at"),
        ({"loss.min_score": 1.0}, "must be below"),
        ({"tracking.uri": "file:mlruns"}, "sqlite:///FILE"),
        ({"run.name": "a/b"}, "plain folder name"),
        ({"data.group_size": 1000}, "exceeds training.batch_size"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)


def test_an_int_is_accepted_where_a_float_is_meant() -> None:
    assert override(Config(), {"training.learning_rate": 1}).training.learning_rate == 1.0


def test_only_what_decides_the_result_changes_the_hash() -> None:
    config = Config()
    assert config_hash(override(config, {"ray.num_workers": 7})) == config_hash(config)
    assert config_hash(override(config, {"training.seed": 7})) != config_hash(config)


def test_every_option_has_a_docstring() -> None:
    sections = {f.name: type(getattr(Config(), f.name)) for f in dataclasses.fields(Config)}
    for section in {c for s in sections.values() for c in s.__mro__ if c is not object}:
        (node,) = ast.parse(inspect.getsource(section)).body
        assert isinstance(node, ast.ClassDef)
        for statement, following in zip(node.body, node.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign):
                assert isinstance(following, ast.Expr), ast.unparse(statement)


def test_every_option_has_a_default() -> None:
    assert dataclasses.asdict(Config())
