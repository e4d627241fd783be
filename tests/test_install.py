"""Installing with uv what pip would install."""

import importlib.util
import sys
from types import ModuleType

import pytest

from tests.places import ROOT


@pytest.fixture(scope="module")
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "infra" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_where_pip_looks_uv_looks_too(install: ModuleType) -> None:
    listed = (
        ":env:.cert='/etc/ca.crt'\n:env:.find-links='/wheels'\nglobal.find-links='/other'\n"
        "global.extra-index-url='https://a/simple file:///b'\nfreeze.timeout='10'\n"
    )
    settings = install.parsed(listed)
    assert settings["cert"] == "/etc/ca.crt"
    assert install.translated(settings)[2:] == [
        *("--extra-index-url", "https://a/simple", "--extra-index-url", "file:///b"),
        *("--find-links", "/wheels"),
    ]


def test_a_setting_of_no_known_meaning_leaves_the_work_to_pip(install: ModuleType) -> None:
    assert install.translated(install.parsed("install.target='/elsewhere'\n")) is None
    assert install.translated(install.parsed("global.trusted-host='mirror'\n")) is None
    assert install.parsed("global.index-url=no literal\n") is None


@pytest.mark.parametrize("value", ["true", "0"])
def test_no_index_is_said_only_where_it_is_on(install: ModuleType, value: str) -> None:
    options = install.translated(install.parsed(f"global.no-index='{value}'\n"))
    assert ("--no-index" in options) == (value == "true")


def test_pip_installs_where_uv_cannot(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    # The interpreter is one that notes what it is asked for, and knows nothing of uv.
    log = tmp_path / "log"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$*" >> "{log}"\n[ "$2" != uv ] && [ "$5" != list ]\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(install.compileall, "compile_dir", lambda *_, **__: True)
    monkeypatch.setattr(install, "settings_of_pip", dict)
    assert install.main(["-e", "."]) == 0
    asked = log.read_text().splitlines()
    assert "-m uv pip install" in asked[1]
    assert asked[2].endswith("install --quiet --no-compile -e .")
