"""Packages that need not be there: `apdist doctor` knows all, and one command installs them."""

import re
import sys

import pytest

from apdist.config.extras import EXTRAS, install
from tests.places import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NOT_OF_A_USER = {"dev"}
OF_GPUS = {"faiss-gpu", "triton"}


@pytest.fixture(scope="module")
def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"])


def test_every_extra_of_the_project_is_looked_for(declared: set[str]) -> None:
    assert declared - NOT_OF_A_USER - OF_GPUS == set(EXTRAS)


def test_the_code_advises_extras_that_there_are_and_no_path_of_a_checkout(
    declared: set[str],
) -> None:
    for path in [*(ROOT / "apdist").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        text = path.read_text()
        assert ".venv" not in text, path
        for names in re.findall(r"\binstall\((['\"][\w, '\"-]+)\)", text):
            assert set(re.findall(r"[\w-]+", names)) <= declared, path


def test_several_are_installed_at_once() -> None:
    assert install("hub", "lora") == "pip install 'apdist[hub,lora]'"
