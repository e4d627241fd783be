"""Room for the workers, as far as it is known before Ray starts."""

import os
from dataclasses import replace
from typing import Any

import pytest
import torch

from apdist.config import RayConfig
from apdist.training.cluster.room import (
    address_of,
    gpus_of,
    refuse_at_once,
    refuse_if_too_small,
    uses_gpus,
    with_number,
)
from tests.s3_server import free_ports


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_a_worker_needs_all_it_has_on_one_node() -> None:
    two = RayConfig(num_workers=1, cpus_per_worker=2)
    refuse_if_too_small(two, [{"CPU": 2}])
    refuse_if_too_small(RayConfig(num_workers="2-9"), [{"CPU": 2}])
    with pytest.raises(ValueError, match="num_workers is 3-9, .* has room for 2"):
        refuse_if_too_small(RayConfig(num_workers="3-9"), [{"CPU": 2}])
    with pytest.raises(ValueError, match="2 CPUs; .* room for 0: use fewer --ray.cpus-per-worker"):
        refuse_if_too_small(two, [{"CPU": 1}, {"CPU": 1}])
    with pytest.raises(ValueError, match="each with 1 CPU and 1 GPU; the cluster has room for 1"):
        refuse_if_too_small(RayConfig(num_workers=2, use_gpu="yes"), [{"CPU": 8, "GPU": 1}])
    with pytest.raises(ValueError, match="is auto, each .* room for 0: use --ray.use-gpu no, or"):
        refuse_if_too_small(RayConfig(use_gpu="yes"), [{"CPU": 8}])


def test_workers_get_gpus_where_there_is_one_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    two, nodes = RayConfig(num_workers=2), [{"CPU": 8, "GPU": 1}, {"CPU": 1, "GPU": 3}]
    assert uses_gpus(two, nodes)
    assert not uses_gpus(two, nodes[:1])
    assert uses_gpus(RayConfig(num_workers="1-3"), nodes[:1])
    assert not uses_gpus(RayConfig(num_workers=2, cpus_per_worker=2), nodes)
    assert uses_gpus(RayConfig(num_workers=2, use_gpu="yes"), [])
    assert not uses_gpus(RayConfig(num_workers=1, use_gpu="no"), nodes)
    assert gpus_of(nodes) == 4
    refuse_if_too_small(two, nodes)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert uses_gpus(RayConfig(num_workers=0), [])
    assert not uses_gpus(RayConfig(num_workers=0, use_gpu="no"), [])


@pytest.mark.parametrize(
    ("options", "nodes", "number", "of_trial"),
    [
        ({}, [{"CPU": 8, "GPU": 1}], 1, 1),
        ({}, [{"CPU": 8, "GPU": 4}, {"CPU": 2, "GPU": 4}], 6, 1),
        ({"use_gpu": "no"}, [{"CPU": 8, "GPU": 4}], 2, 2),
        ({"cpus_per_worker": 4}, [{"CPU": 8, "GPU": 4}], 2, 1),
        ({}, [{"CPU": 8}], 2, 2),
        ({}, [{"CPU": 1}], 1, 1),
        ({"autoscaling": True}, [{"CPU": 1}], 2, 2),
        ({"autoscaling": True, "use_gpu": "yes"}, [], 1, 1),
        ({"num_workers": 3}, [{"CPU": 8, "GPU": 4}], 3, 3),
        ({"num_workers": "2-8"}, [{"CPU": 8, "GPU": 4}], "2-8", "2-8"),
    ],
)
def test_auto_is_a_worker_for_each_gpu_or_two(
    options: dict[str, Any], nodes: list[dict[str, float]], number: int | str, of_trial: int | str
) -> None:
    config = RayConfig(**options)
    assert with_number(config, nodes, most=0) == with_number(config, nodes, most=1)
    assert with_number(config, nodes) == replace(config, num_workers=number)
    assert with_number(config, nodes, most=1).num_workers == of_trial


def test_more_workers_than_this_machine_has_cpus_are_refused_before_ray_is_there() -> None:
    many = (os.cpu_count() or 1) + 1
    with pytest.raises(ValueError, match=f"num_workers is {many}, each with 1 CPU"):
        refuse_at_once(RayConfig(num_workers=many))
    refuse_at_once(RayConfig(num_workers=many, autoscaling=True))
    refuse_at_once(RayConfig(num_workers=0, cpus_per_worker=many))


def test_in_a_job_the_cluster_is_that_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address_of(RayConfig()) == "local"
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_ports(1)[0]}")
    assert address_of(RayConfig()) == "auto"
    with pytest.raises(ValueError, match="which RAY_ADDRESS says"):
        refuse_at_once(RayConfig())
