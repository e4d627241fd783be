"""Reading the files of the infrastructure, and comparing them with a closed schema."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from tests.places import ROOT

HERE = Path(__file__).parent


def load(path: Path) -> dict[str, Any]:
    """A YAML file of one document."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def pinned(package: str) -> str:
    """The version in constraints.txt."""
    found = re.search(rf"^{package}==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def problems(content: dict[str, Any], schema: str, part: str = "") -> list[str]:
    """What a schema of this folder, or a part of it, finds wrong: where, and what."""
    found = validator(schema, part).iter_errors(content)
    return [f"{error.json_path}: {error.message}" for error in found]


@cache
def validator(schema: str, part: str) -> Any:
    """Reads and checks the schema itself."""
    definition = load(HERE / f"{schema}.schema.yaml")
    if part:
        definition = {"$ref": f"#/$defs/{part}", "$defs": definition["$defs"]}
    Draft202012Validator.check_schema(definition)
    return Draft202012Validator(definition)
