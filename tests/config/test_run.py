"""What the options of workers, tracking and the run's folder refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ray.address": "ray://head:10001"}, "local, auto or HOST:PORT"),
        ({"ray.address": "head"}, "local, auto or HOST:PORT"),
        ({"ray.num_workers": -1}, "ray.num_workers must be at least 0"),
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


@pytest.mark.parametrize("address", ["local", "auto", "10.0.0.1:6379", "[::1]:6379"])
def test_an_address_of_a_cluster_is_accepted(address: str) -> None:
    assert override(Config(), {"ray.address": address}).ray.address == address
