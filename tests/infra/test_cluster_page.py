"""The commands of docs/cluster.md: programs and options that are known, files that are there."""

import re
import shlex
from pathlib import Path

import pytest

from tests.infra.files import load
from tests.places import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text()
OTHERS = {"aws", "docker", "kubectl", "helm", "ssh", "scp", "cp", "sudo", "export", "python"}
"""Not installed here, or nothing to ask: the files that they name are looked for."""


def commands() -> list[list[str]]:
    """The words of each command in the page's blocks; the comments are left out."""
    blocks = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    plain = [re.sub(r"\$\(.*\)", "WORD", line) for line in lines]
    pieces = [piece for line in plain for piece in line.split(" | ")]
    return [words for piece in pieces if (words := shlex.split(piece, comments=True))]


def of(program: str) -> list[list[str]]:
    """What stands behind ``program`` wherever it is called."""
    return [words[1:] for words in commands() if words[0] == program]


def test_all_programs_are_known() -> None:
    assert {words[0] for words in commands()} <= OTHERS | {"apdist", "ray"}


@pytest.fixture(autouse=True)
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place with the folder that a job takes along."""
    (tmp_path / "search").mkdir()
    monkeypatch.chdir(tmp_path)


def test_the_commands_of_apdist_are_accepted() -> None:
    from apdist_verbs.jobs import jobs, logs, stop, submit
    from apdist_verbs.start.command import check_command
    from apdist_verbs.terminal.options import parse

    found = of("apdist")
    assert {words[0] for words in found} >= {"submit", "jobs", "logs", "stop", "doctor", "sweep"}
    for verb, *words in found:
        if verb == "submit":
            own, inner = submit.split_arguments(words)
            parse(submit.Options, own, "apdist submit")
            check_command(inner)
        elif verb in ("jobs", "logs", "stop"):
            parse({"jobs": jobs, "logs": logs, "stop": stop}[verb].Options, words, f"apdist {verb}")
        else:
            check_command([verb, *words])


@pytest.mark.filterwarnings("ignore")
def test_ray_knows_the_options_of_its_commands() -> None:
    from ray.scripts.scripts import cli

    found = of("ray")
    assert {words[0] for words in found} >= {"up", "down", "start", "stop", "get-auth-token"}
    for name, *words in found:
        words = [str(ROOT / word) if word.endswith(".yaml") else word for word in words]
        cli.commands[name].make_context(name, words)


def test_files_that_commands_name_are_there() -> None:
    named = re.findall(r"(?:file://)?((?:infra|tests)/[\w./-]+\w|\w+\.yaml|constraints\.txt)", PAGE)
    assert len(set(named)) > 10
    own = {"infra/.env"}
    assert not [name for name in set(named) - own if not (ROOT / name).exists()]
    assert set(re.findall(r"--target (\w+)", PAGE)) == {"cpu", "gpu"}


def test_names_of_kubernetes_are_those_of_the_manifests() -> None:
    folder = ROOT / "infra" / "kuberay"
    cluster, job = (load(folder / f"{name}.yaml") for name in ("raycluster", "rayjob"))
    words = [word for command in of("kubectl") for word in command]
    assert f"svc/{cluster['metadata']['name']}-head-svc" in words
    assert job["metadata"]["name"] in words
    made = {command[3] for command in of("kubectl") if command[:2] == ["create", "secret"]}
    text = "".join(path.read_text() for path in folder.glob("*.yaml"))
    assert made == set(re.findall(r"(?:secretName:|secretRef: {name:) ([\w-]+)", text))


def test_roles_are_those_of_the_cluster_file() -> None:
    types = load(ROOT / "ray_cluster.yaml")["available_node_types"].values()
    profiles = {machine["node_config"]["IamInstanceProfile"]["Name"] for machine in types}
    assert profiles == set(re.findall(r"--instance-profile-name (\S+) --role-name", PAGE))


def test_the_figures_that_the_page_names_are_those_of_a_run() -> None:
    from apdist.training.cluster.metrics import GAUGES, RESTARTS

    named = set(re.findall(r"`ray_(apdist_\w+)`", PAGE))
    assert named == {*GAUGES, f"{RESTARTS}_total"}
