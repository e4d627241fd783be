"""The cluster files: valid for the tools that read them, and in step with the pinned versions."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.places import ROOT

KUBERAY = sorted((ROOT / "infra" / "kuberay").glob("*.yaml"))


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def pinned(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


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


def test_the_image_has_the_pinned_ray_and_a_python_that_is_supported() -> None:
    base = re.search(
        r"^FROM rayproject/ray:([\d.]+)-py3(\d+)-gpu$",
        (ROOT / "infra" / "Dockerfile").read_text(),
        re.MULTILINE,
    )
    assert base is not None
    assert base[1] == pinned("ray")
    assert 10 <= int(base[2]) <= 13


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    text = (ROOT / "infra" / "Dockerfile").read_text()
    ignore = (ROOT / "infra" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY --chown=\S+ (.+)$", text, re.MULTILINE)
    sources = [source for line in copied for source in line.split()[:-1]]
    assert {"apdist", "pipelines", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists(), source
    assert {line[1:] for line in ignore if line.startswith("!")} == set(sources)


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.name)
def test_kubernetes_clusters_have_the_pinned_ray_and_a_token(path: Path) -> None:
    content = load(path)
    assert content["apiVersion"] == "ray.io/v1"
    spec = content["spec"].get("rayClusterSpec", content["spec"])
    assert spec["rayVersion"] == pinned("ray")
    assert spec["authOptions"] == {"mode": "token"}
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_the_kubernetes_job_runs_a_command_that_parses(capsys: pytest.CaptureFixture[str]) -> None:
    from apdist_verbs.start.start import read_start

    entrypoint = load(ROOT / "infra" / "kuberay" / "rayjob.yaml")["spec"]["entrypoint"].split()
    assert entrypoint[:2] == ["apdist", "train"]
    assert read_start(entrypoint[2:])[1].config.ray.autoscaling


def test_services_listen_on_this_machine_only_and_keep_their_data() -> None:
    services = load(ROOT / "infra" / "compose.yaml")["services"]
    assert set(services) == {"s3", "mlflow"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
        assert service["volumes"]
    assert services["mlflow"]["image"].endswith(f":v{pinned('mlflow')}")
    assert "-master.telemetry=false" in services["s3"]["command"]


def test_no_file_of_the_infrastructure_holds_a_secret() -> None:
    names = [path for path in (ROOT / "infra").rglob("*") if path.is_file()]
    for path in [ROOT / "ray_cluster.yaml", *names]:
        if path.name == ".env":  # a person's own; git ignores it
            continue
        text = path.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}", text)
        for value in re.findall(r"(?:SECRET_ACCESS_KEY|AUTH_TOKEN)\s*[:=]\s*(\S+)", text):
            assert value.startswith("${"), (path, value)


def test_git_ignores_the_keys_of_the_services() -> None:
    assert "/infra/.env" in (ROOT / ".gitignore").read_text().splitlines()
    keys = (ROOT / "infra" / "example.env").read_text()
    assert not re.search(r"^AWS_\w+=.+$", keys, re.MULTILINE)
