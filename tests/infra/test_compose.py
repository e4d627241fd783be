"""The services of a team: closed against misspelt fields, without a password in a file."""

import re

import pytest

from tests.infra.files import load, pinned, problems
from tests.places import ROOT

COMPOSE = ROOT / "infra" / "compose.yaml"
KEYS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD"}


def test_the_services_keep_to_the_schema() -> None:
    assert not problems(load(COMPOSE), "compose")


@pytest.mark.parametrize("field", ["healthchecks", "enviroment", "network"])
def test_a_misspelt_field_is_seen(field: str) -> None:
    content = load(COMPOSE)
    content["services"]["mlflow"][field] = {}
    assert field in str(problems(content, "compose"))


def test_services_listen_on_this_machine_only_and_say_how_they_are() -> None:
    services = load(COMPOSE)["services"]
    assert set(services) == {"s3", "postgres", "mlflow"}
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert service["healthcheck"]["test"][0] == "CMD"
        assert "no-new-privileges:true" in service["security_opt"]
    assert "ports" not in services["postgres"]  # only MLflow asks it
    assert services["mlflow"]["image"].endswith(f":v{pinned('mlflow')}-full")
    assert "-master.telemetry=false" in services["s3"]["command"]
    # SQLAlchemy 2.0 and 2.1 take different drivers where none is named.
    assert "postgresql+psycopg2://" in services["mlflow"]["command"]


def test_what_is_kept_lies_in_volumes_and_is_waited_for() -> None:
    content = load(COMPOSE)
    mounted = [v for s in content["services"].values() for v in s.get("volumes", [])]
    assert {volume.partition(":")[0] for volume in mounted} == set(content["volumes"])
    waits = content["services"]["mlflow"]["depends_on"]
    assert waits == {name: {"condition": "service_healthy"} for name in ("postgres", "s3")}


def test_every_key_is_asked_for_and_none_has_a_value_or_stands_in_an_address() -> None:
    text = COMPOSE.read_text()
    # `:?` refuses one that is missing or empty; every other form would go on without.
    assert set(re.findall(r"\$\{(\w+):\?[^}]+\}", text)) == KEYS
    assert len(re.findall(r"\$", text)) == len(re.findall(r"\$\{\w+:\?", text))
    for service in load(COMPOSE)["services"].values():
        assert "$" not in service.get("command", "")  # a list of processes shows it
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|KEY", name):
                assert value.startswith("${")
    example = (ROOT / "infra" / "example.env").read_text()
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == KEYS
    assert "/infra/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_no_file_of_the_infrastructure_holds_a_secret() -> None:
    names = [path for path in (ROOT / "infra").rglob("*") if path.is_file()]
    for path in [ROOT / "ray_cluster.yaml", *names]:
        if path.name == ".env":  # a person's own; git ignores it
            continue
        text = path.read_text()
        assert not re.search(r"AKIA[0-9A-Z]{16}", text)
        for value in re.findall(
            r"(?:SECRET_ACCESS_KEY|AUTH_TOKEN|PASSWORD)[ \t]*[:=][ \t]*(\S+)", text
        ):
            assert value.startswith("${"), (path, value)
