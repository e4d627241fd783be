"""The package as others get it: a wheel, installed where there is no source tree."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from setuptools.dist import Distribution

from tests.places import ROOT

PACKAGED = ("apdist", "pipelines", "pyproject.toml", "README.md", "LICENSE")
# Notes every file of the source tree that a process of the environment opens.
WATCH = """
import sys

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and arguments[0].startswith({tree!r}):
        with open({log!r}, "a") as file:
            print(*arguments, sys.argv, file=file)

sys.addaudithook(watch)
"""
OPENED = "opened.txt"
FILES = "import apdist, apdist_verbs; print(apdist.__file__, apdist_verbs.__file__, sep='\\n')"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the tree, because setuptools leaves files where it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=skipped)
        else:
            shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source))
    shutil.rmtree(source)
    (built,) = out.glob("apdist-*.whl")
    return built


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, *arguments], check=True)


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and the dependencies that are installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    pip("--python", str(folder / "bin" / "python"), "install", "--no-deps", str(wheel))
    (packages,) = folder.glob("lib/python*/site-packages")
    # Last on the path, and its own .pth files, the one of this source tree among them, do nothing.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    tree = [f"{ROOT / name}{os.sep}" for name in ("apdist", "pipelines", "tests")]
    (packages / "sitecustomize.py").write_text(
        WATCH.format(tree=tuple(tree), log=str(folder / OPENED))
    )
    return folder


def clean() -> dict[str, str]:
    """The variables of this process without those that lead to other packages."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_wheel_has_every_file_that_is_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    package = Distribution({"include_package_data": False})  # else it writes where it reads
    package.parse_config_files()
    build = package.get_command_obj("build_py")
    build.ensure_finalized()
    built = {Path(folder, name) for _, folder, _, names in build.data_files for name in names}
    others = {
        file.relative_to(ROOT)
        for package in ("apdist", "pipelines/apdist_verbs")
        for file in (ROOT / package).rglob("*.*")
        if file.suffix not in (".py", ".md") and "__pycache__" not in file.parts
    }
    assert Path("apdist/report/templates/page.html") in others
    assert Path("pipelines/apdist_verbs/spaces/paper.toml") in others
    assert others <= built


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(1800)
def test_the_demo_runs_from_a_wheel_without_the_source_tree(
    environment: Path, tmp_path: Path
) -> None:
    def run(*command: str) -> str:
        answer = subprocess.run(
            [str(environment / "bin" / command[0]), *command[1:]],
            cwd=tmp_path,
            env=clean() | {"HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}"
        return answer.stdout

    assert all(line.startswith(str(environment)) for line in run("python", "-c", FILES).split())
    assert run("apdist", "--version").startswith("apdist ")
    said = run("apdist", "demo")
    (run_folder,) = (tmp_path / "runs").iterdir()
    assert {"model.safetensors", "report.html", "index"} <= set(os.listdir(run_folder))
    assert f"{environment / 'bin' / 'apdist'} search" in said.replace("\n", " ")
    opened = environment / OPENED
    assert not opened.exists(), opened.read_text()
