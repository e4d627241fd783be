"""The manifests for KubeRay: closed against misspelt fields, and as narrow as they can be."""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.infra.files import load, pinned, problems
from tests.places import ROOT

FOLDER = ROOT / "infra" / "kuberay"
CLUSTERS = [FOLDER / "raycluster.yaml", FOLDER / "rayjob.yaml"]
PARTS = {
    "raycluster.yaml": "rayCluster",
    "rayjob.yaml": "rayJob",
    "networkpolicy.yaml": "networkPolicy",
}


def cluster(path: Path) -> dict[str, Any]:
    """What a manifest says of its Ray cluster."""
    spec: dict[str, Any] = load(path)["spec"]
    inner: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return inner


def groups(path: Path) -> list[dict[str, Any]]:
    """The pods of a Ray cluster: the head first."""
    spec = cluster(path)
    return [group["template"] for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]]


def test_every_manifest_keeps_to_the_schema() -> None:
    assert {path.name for path in FOLDER.glob("*")} == set(PARTS)
    for name, part in PARTS.items():
        assert not problems(load(FOLDER / name), "kubernetes", part)


def objects(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to all objects with fields in ``content``."""
    if isinstance(content, dict):
        yield path
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in inner:
        if isinstance(value, dict | list):
            yield from objects(value, (*path, key))


FREE = {"matchLabels", "labels", "rayStartParams", "requests", "limits"}
"""Fields whose names are a person's own."""


@pytest.mark.parametrize("name", PARTS)
def test_a_misspelt_field_is_seen_wherever_it_is(name: str) -> None:
    content = load(FOLDER / name)
    places = [path for path in objects(content) if not path or path[-1] not in FREE]
    assert len(places) > 10
    for path in places:
        wrong = copy.deepcopy(content)
        place = wrong
        for key in path:
            place = place[key]
        place["misspelt"] = {}
        assert "misspelt" in str(problems(wrong, "kubernetes", PARTS[name])), path


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_clusters_have_the_pinned_ray_and_a_token_of_a_secret(path: Path) -> None:
    spec = cluster(path)
    assert spec["rayVersion"] == pinned("ray")
    assert spec["authOptions"] == {"mode": "token", "secretName": "apdist-token"}


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_every_pod_is_bounded_and_nobody(path: Path) -> None:
    for template in groups(path):
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000  # as the image has it
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["securityContext"] == confined
        # Only the autoscaler, in the head's pod, talks to Kubernetes.
        autoscaled = cluster(path).get("enableInTreeAutoscaling", False)
        is_head = container["name"] == "ray-head"
        assert pod.get("automountServiceAccountToken", True) is (is_head and autoscaled)


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.name)
def test_workers_may_be_on_spot_machines_and_have_time_for_a_checkpoint(path: Path) -> None:
    _, *workers = groups(path)
    for template in workers:
        pod = template["spec"]
        tolerated = {toleration["key"] for toleration in pod["tolerations"]}
        assert {"nvidia.com/gpu", "spot", "cloud.google.com/gke-spot"} <= tolerated
        assert pod["terminationGracePeriodSeconds"] >= 30
        (container,) = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        (shm,) = pod["volumes"]
        assert container["volumeMounts"] == [{"name": shm["name"], "mountPath": "/dev/shm"}]


def test_the_policy_is_for_these_pods_and_lets_nobody_in_unasked() -> None:
    policy = load(FOLDER / "networkpolicy.yaml")["spec"]
    for path in CLUSTERS:
        for template in groups(path):
            assert template["metadata"]["labels"] == policy["podSelector"]["matchLabels"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    own, *others = policy["ingress"]
    assert own == {"from": [{"podSelector": policy["podSelector"]}]}
    assert all(rule["from"] and rule["ports"] for rule in others)
    # HTTP mode: the operator submits; a pod of its own would be turned away.
    assert load(FOLDER / "rayjob.yaml")["spec"]["submissionMode"] == "HTTPMode"


def test_the_job_runs_a_command_that_parses_and_fits_its_workers() -> None:
    from apdist_verbs.start.start import read_start

    spec = load(FOLDER / "rayjob.yaml")["spec"]
    words = shlex.split(spec["entrypoint"])
    assert words[:2] == ["apdist", "train"]
    ray = read_start(words[2:])[1].config.ray
    assert ray.autoscaling
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert ray.num_workers == group["replicas"] == group["maxReplicas"]


def test_the_images_are_those_that_the_page_builds() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    used = {t["spec"]["containers"][0]["image"] for path in CLUSTERS for t in groups(path)}
    built = set(re.findall(r"-t (REGISTRY/apdist:\S+)", page))
    assert used == built
