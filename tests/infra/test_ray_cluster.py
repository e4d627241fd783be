"""The cluster file of `ray up`: valid by Ray's own schema, and safe."""

from typing import Any

import pytest

from tests.infra.files import load
from tests.places import ROOT


def validate(cluster: dict[str, Any]) -> None:
    """Ray's own check of what `ray up` gets; it has no dry run."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


@pytest.mark.filterwarnings("ignore")
def test_ray_up_accepts_the_cluster_file() -> None:
    validate(load(ROOT / "ray_cluster.yaml"))


@pytest.mark.filterwarnings("ignore")
def test_ray_up_refuses_a_misspelt_key_and_a_missing_head() -> None:
    with pytest.raises(Exception, match="max_worker"):
        validate({**load(ROOT / "ray_cluster.yaml"), "max_worker": 3})
    with pytest.raises(Exception, match="head_node_type"):
        validate({**load(ROOT / "ray_cluster.yaml"), "head_node_type": "nobody"})


def test_every_node_of_the_cluster_asks_for_the_token() -> None:
    options = load(ROOT / "ray_cluster.yaml")["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    assert load(ROOT / "ray_cluster.yaml")["file_mounts"]["/home/ray/.ray/auth_token"]


def test_every_machine_has_an_image_with_drivers_and_a_role() -> None:
    """Ray's own choices fail late: an old driver, workers that may not read S3."""
    types = load(ROOT / "ray_cluster.yaml")["available_node_types"]
    assert set(types) == {"head", "gpu_worker"}
    for machine in types.values():
        assert machine["node_config"]["ImageId"]
        assert machine["node_config"]["IamInstanceProfile"]["Name"]
    assert types["gpu_worker"]["min_workers"] == 0


def test_nothing_is_installed_when_a_machine_starts() -> None:
    from ray.autoscaler._private.util import prepare_config

    cluster = prepare_config(load(ROOT / "ray_cluster.yaml"))
    assert cluster["head_setup_commands"] == cluster["worker_setup_commands"] == []
