"""What the options of workers, tracking and the run's folder refuse."""

import pytest

from apdist.config import Config, override
from apdist.config.config import config_hash, from_json, to_json


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ray.address": "ray://head:10001"}, "local, auto or HOST:PORT"),
        ({"ray.address": "head"}, "local, auto or HOST:PORT"),
        ({"ray.num_workers": -1}, "ray.num_workers must be at least 0"),
        ({"ray.num_workers": "0-4"}, "ray.num_workers 0-4: a range begins at 1 or more"),
        ({"ray.num_workers": "8-2"}, "the smaller number comes first, as 2-8"),
        ({"ray.num_workers": "2-"}, "a number, as 2, or a range, as 2-8; got '2-'"),
        ({"ray.num_workers": "many"}, "a number, as 2, or a range, as 2-8; got 'many'"),
        ({"ray.num_workers": 2.5}, "ray.num_workers must be of type int, got 2.5"),
        ({"ray.restarts_per_hour": -1}, "ray.restarts_per_hour must be at least 0"),
        ({"tracking.uri": "file:mlruns"}, "sqlite:///FILE"),
        ({"tracking.uri": "mlflow.db"}, "sqlite:///FILE"),
        ({"tracking.uri": "http://u:geheim@h:5000"}, "set MLFLOW_TRACKING_USERNAME and MLFLOW"),
        ({"run.name": "a/b"}, "plain folder name"),
        ({"run.name": ".hidden"}, "plain folder name"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as told:
        override(Config(), change)
    assert "geheim" not in str(told.value)


@pytest.mark.parametrize(
    ("number", "least", "most", "is_elastic"),
    [
        (2, 2, 2, False),
        (0, 0, 0, False),
        ("2-8", 2, 8, True),
        ("3-3", 3, 3, True),
        ("auto", 1, 1, False),
    ],
)
def test_a_number_of_workers_may_be_a_range_or_auto(
    number: int | str, least: int, most: int, is_elastic: bool
) -> None:
    config = from_json(to_json(override(Config(), {"ray.num_workers": number})))
    ray = config.ray
    assert (ray.least_workers, ray.most_workers, ray.is_elastic) == (least, most, is_elastic)
    assert config_hash(config) == config_hash(Config())


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379", "[::1]:6379"])
def test_an_address_of_a_cluster_is_accepted(address: str) -> None:
    assert override(Config(), {"ray.address": address}).ray.address == address
